"""What `flexidepth bench --json` printed -> a chart of a token's time against the layers it ran.

Its slope is the proof that a skipped layer is saved time. Knows the benchmark's JSON; knows no torch and no model.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from analysis.svg_chart import COLOURS, Line, Panel, svg
from flexidepth.errors import UsageError

_FEWEST = 5  # tokens of a depth that are drawn: the median of fewer is noise


def read_bench(path: Path) -> dict[str, Any]:
    """Raises UsageError for a file that is not what bench prints."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(result["rows"], list) and isinstance(result["machine"], dict):
            return dict(result)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path} is not a benchmark: make one with python -m flexidepth bench --json")


def latency_svg(result: dict[str, Any]) -> str:
    """One panel a context, one line an engine; see `_line` for what a point is."""
    contexts = list(dict.fromkeys(row["context"] for row in result["rows"]))
    panels = []
    for context in contexts:
        engines: dict[str, dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
        for row in result["rows"]:
            if row["context"] != context:
                continue
            for layers, depth in row["by_depth"].items():
                engines[row["name"].rsplit(" ", 1)[0]][int(layers)].append((depth["tokens"], depth["ms_p50"]))
        lines = [
            _line(name, points, COLOURS[place % len(COLOURS)])
            for place, (name, points) in enumerate(engines.items())
            if points and name != "reference"
        ]
        most = max((y for line in lines for y in line.ys), default=1.0)
        title = f"Context {context}"
        axes: dict[str, Any] = {"y_range": (0, 1.1 * most), "names_above": True, "whole_x": True}
        panels.append(Panel(title, "layers run", "ms a token", lines, **axes))
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return svg(
        panels,
        columns=max(1, len(panels)),
        height=280,
        caption=f"{machine['processor']}, {machine['threads']} threads, {versions}. Medians over tokens of the rows "
        "all, learned, static and none.",
    )


def _line(name: str, points: dict[int, list[tuple[int, float]]], colour: str) -> Line:
    """Medians of several rows at one depth are averaged by their tokens."""
    xs, ys = [], []
    for layers in sorted(points):
        tokens = sum(count for count, _ in points[layers])
        if tokens >= _FEWEST:
            xs.append(float(layers))
            ys.append(sum(count * ms for count, ms in points[layers]) / tokens)
    return Line(name, xs, ys, colour, marks=True)
