"""Tables and chart of results.json: the numbers of the file, the paper's quoted beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from analysis.results_tables import patterns_text, read_results, results_text, usage_svg
from flexidepth.errors import UsageError

POLYLINE = "{http://www.w3.org/2000/svg}polyline"


def score(kl: float) -> dict[str, Any]:
    numbers = {"documents": 7, "tokens": 900, "nll": 2.1, "base_nll": 2.0, "kl_to_base": kl}
    return numbers | {"mean_layers_used": 27.5, "num_layers": 30}


def answer(right: float | None) -> dict[str, Any]:
    ours = {"n": 8, "same_as_base": 0.25, "overlap_with_base": 0.876, "shared_with_base": 0.5}
    return ours | {
        f"{prefix}{name}": value
        for prefix in ("", "base_")
        for name, value in (("right", right), ("runaway", 0.125), ("tokens", 41.0))
    }


def task(mean: float, usage: list[float]) -> dict[str, Any]:
    spread = {"ci95": [mean - 0.5, mean + 0.5], "var_layers": 3.25, "var_over_prompts": 1.5}
    return {"n": 8, "tokens": 300, "mean_layers": mean, "per_layer_usage": usage} | spread


@pytest.fixture
def found() -> dict[str, Any]:
    def pair(first: str, second: str, difference: float, low: float, high: float) -> dict[str, Any]:
        named = {"first": first, "second": second, "difference": difference}
        return named | {"ci95": [low, high], "p": 0.01, "p_holm": 0.03}

    return {
        "checkpoint": "c0ffee",
        "threshold": 0.5,
        "num_layers": 30,
        "routed_layers": [1, 2],
        "n": 8,
        "max_new_tokens": 256,
        "scores": {"passages": {"learned": score(0.05), "random": score(0.5), "static": score(0.2)}},
        "answers": {"copy": answer(0.75), "summarize": answer(None)},
        "patterns": {
            "tasks": {"copy": task(26.0, [1.0, 0.25, 0.5]), "repeat": task(24.0, [1.0, 0.75, 1.0])},
            "pairs": [
                pair("copy", "summarize", 1.0, 0.5, 1.5),
                pair("repeat", "add", -1.0, -1.5, -0.5),
                pair("add", "multiply", 0.1, -0.5, 0.7),
            ],
            "token_classes": {"punctuation": {"runs": 8, "tokens": 50, "mean_layers": 25.5, "ci95": [25.0, 26.0]}},
        },
    }


def test_tables_hold_the_numbers_of_the_file(found: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(found))
    text = results_text(tmp_path / "results.json")
    for words in (
        "Our passages, 7 with 900 predicted tokens (base nll 2.0000)",
        "| learned | 27.50 | 2.1000 (+5.0%) | 0.0500 | 1.0 |",
        "| random, each layer at its learned rate | 27.50 | 2.1000 (+5.0%) | 0.5000 | 10.0 |",
        "| copy | 75% | 75% | 25% | 0.88 | 12% / 12% | 41 / 41 |",
        "| summarize | - | - |",
        "| copy | 26.00 (25.50 to 26.50) | 3.25 | 1.50 | 21.95 (6.05) |",
        "| punctuation | 50 | 25.50 (25.00 to 26.00) |",
    ):
        assert words in text


def test_order_is_said_as_it_was_found(found: dict[str, Any]) -> None:
    said = [line.rsplit("| ", 1)[1] for line in patterns_text(found).splitlines() if " minus " in line]
    assert said == ["yes |", "no: reversed |", "undecided |"]


def test_chart_has_a_curve_a_task_in_the_panel_of_its_kind(found: dict[str, Any]) -> None:
    root = ElementTree.fromstring(usage_svg(found))
    panels = [group for group in root if group.tag.endswith("}g")]
    curves = [[line.get("points", "").split() for line in panel.iter(POLYLINE)] for panel in panels]
    assert [len(panel) for panel in curves] == [1, 1]
    heights = [float(point.split(",")[1]) for point in curves[0][0]]
    assert heights[0] > heights[1], "25 % lies below 50 %"


def test_missing_results_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make results"):
        read_results(tmp_path / "results.json")
