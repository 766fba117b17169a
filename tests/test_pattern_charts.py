"""Charts of a summary: a panel a kind of task, curves where the numbers say."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from analysis.pattern_charts import along_svg, bowls_svg, classes_svg, depths_svg
from analysis.summary import summarize_runs
from tests.recorded_runs import EVERY, NONE, make_recorded

SVG = "{http://www.w3.org/2000/svg}"
FIRST = (True, False)


@pytest.fixture(scope="module")
def summary():
    runs = [
        make_recorded([("1", EVERY), (" two.", FIRST), ("x", NONE)] * (number + 1), task=task, number=number)
        for task in ("copy", "summarize", "repeat", "own")
        for number in range(3)
    ]
    return summarize_runs(runs)


def polylines(text):
    chart = ElementTree.fromstring(text)
    return [line.attrib["points"].split() for line in chart.iter(SVG + "polyline")]


def words(text):
    return [each.text for each in ElementTree.fromstring(text).iter(SVG + "text")]


def test_bowls_have_a_panel_a_kind_and_a_point_a_routed_layer(summary):
    text = bowls_svg(summary, (2, 3), "caption of the run")
    assert [len(points) for points in polylines(text)] == [2] * 4
    assert {"Language", "Maths", "Prompts", "caption of the run"} <= set(words(text))
    assert {"3", "4"} <= set(words(text)), "layers count from 1"
    names = [span.text for span in ElementTree.fromstring(text).iter(SVG + "tspan")]
    assert names == ["copy, 3.0", "summarize, 3.0", "repeat, 3.0", "own, 3.0"]
    assert text.count("<polygon") == 4, "every curve has its band"


def test_a_summary_without_intervals_by_layer_is_drawn_without_bands(summary):
    tasks = {name: {k: v for k, v in task.items() if k != "per_layer_ci95"} for name, task in summary["tasks"].items()}
    assert "<polygon" not in bowls_svg({**summary, "tasks": tasks}, (2, 3), "c")


def test_depths_go_from_the_shallowest_to_the_deepest_token(summary):
    assert [len(points) for points in polylines(depths_svg(summary, "c"))] == [3] * 4


def test_along_has_a_point_a_stretch(summary):
    expected = [len(task["along"]) for task in summary["tasks"].values()]
    assert [len(points) for points in polylines(along_svg(summary, "c"))] == expected


def test_classes_have_a_row_each_with_its_tokens(summary):
    text = classes_svg(summary, "c")
    for name, one in summary["token_classes"].items():
        assert f"{name} ({one['tokens']})" in words(text)
