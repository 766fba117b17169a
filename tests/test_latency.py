"""The chart of time against depth: its points are the benchmark's, and other files are refused."""

from __future__ import annotations

import json
import sys

import pytest

from analysis.__main__ import main
from analysis.latency import latency_svg, read_bench
from flexidepth.errors import UsageError

MACHINE = {"processor": "some <chip>", "threads": 2, "copy_gb_s": 20.0, "versions": {"torch": "1"}}


def row(name, by_depth, context=10):
    return {"name": name, "context": context, "by_depth": by_depth}


def depth(tokens, ms):
    return {"tokens": tokens, "ms_p50": ms}


RESULT = {
    "rows": [
        row("cpu all", {"30": depth(20, 13.0)}),
        row("cpu learned", {"27": depth(30, 12.0), "30": depth(10, 14.0), "20": depth(1, 99.0)}),
        row("cpu-int8 all", {"30": depth(20, 8.0)}),
        row("transformers dynamic", {}),
    ],
    "machine": MACHINE,
}


def test_a_point_is_the_median_of_its_tokens_and_rare_depths_are_left_out(monkeypatch):
    drawn = []
    monkeypatch.setattr("analysis.latency.svg", lambda panels, **_: drawn.extend(panels) or "<svg/>")
    latency_svg(RESULT)
    (panel,) = drawn
    first, second = (line for line in panel.lines if line.xs)
    assert (first.name, first.xs, first.ys) == ("cpu", [27.0, 30.0], [12.0, pytest.approx((20 * 13 + 10 * 14) / 30)])
    assert (second.name, second.ys) == ("cpu-int8", [8.0])
    assert panel.y_range[0] == 0, "a slope is read from zero"


def test_the_command_writes_a_chart_that_names_the_machine(tmp_path, capsys, monkeypatch):
    source, out = tmp_path / "bench.json", tmp_path / "bench.svg"
    source.write_text(json.dumps(RESULT))
    monkeypatch.setattr(sys, "argv", ["analysis", "latency", str(source), "--out", str(out)])
    assert main() == 0
    assert "some &lt;chip&gt;, 2 threads" in out.read_text()
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("text", ["no json", "[]", '{"rows": 1, "machine": {}}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a benchmark"):
        read_bench(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_bench(tmp_path / "none.json")
