"""A summary of recorded runs -> its charts as SVG: bowls, depth distributions, depth along the answer, token classes.

Knows the summary's numbers (summary.py) and svg_chart.py; knows no traces, no torch and no page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analysis.summary import PAPER_ORDER
from analysis.svg_chart import COLOURS, Line, Panel, Row, dots, svg

_HEIGHT = 270
_TITLES = ("Language", "Maths", "Prompts")

Patterns = dict[str, Any]


def bowls_svg(patterns: Patterns, routed_layers: Sequence[int], caption: str) -> str:
    """Share of the generated tokens that each routed layer processed, with intervals over prompts. routed_layers:
    0-based, as everywhere in code; the chart counts from 1.
    """

    def line(name: str, task: dict[str, Any], colour: str) -> Line:
        ends = task.get("per_layer_ci95")
        return Line(
            name,
            [layer + 1 for layer in routed_layers],
            [100 * task["per_layer_usage"][layer] for layer in routed_layers],
            colour,
            band=None if ends is None else [(100 * ends[layer][0], 100 * ends[layer][1]) for layer in routed_layers],
        )

    return _by_kind(patterns, line, "layer", "% of tokens", caption, y_range=(0, 100))


def depths_svg(patterns: Patterns, caption: str) -> str:
    """Share of the generated tokens by how many layers each used."""

    def line(name: str, task: dict[str, Any], colour: str) -> Line:
        depths = range(min(map(int, task["depth_shares"])), max(map(int, task["depth_shares"])) + 1)
        shares = [100 * task["depth_shares"].get(str(depth), 0.0) for depth in depths]
        return Line(name, list(depths), shares, colour, marks=True)

    return _by_kind(patterns, line, "layers used", "% of tokens", caption)


def along_svg(patterns: Patterns, caption: str) -> str:
    """Mean layers used over stretches of the answer, from its first token on, with intervals over prompts."""

    def line(name: str, task: dict[str, Any], colour: str) -> Line:
        stretches = task["along"]
        return Line(
            name,
            [one["first"] + 1 for one in stretches],
            [one["mean_layers"] for one in stretches],
            colour,
            band=[tuple(one["ci95"]) for one in stretches],
            marks=True,
        )

    return _by_kind(patterns, line, "token of the answer, first of its stretch", "mean layers", caption)


def classes_svg(patterns: Patterns, caption: str) -> str:
    """Mean layers used by kind of token, with intervals over answers."""
    rows = [
        Row(f"{name} ({one['tokens']})", one["mean_layers"], (one["ci95"][0], one["ci95"][1]))
        for name, one in patterns["token_classes"].items()
    ]
    return dots("Kinds of token", "mean layers", rows, caption=caption)


def _by_kind(
    patterns: Patterns,
    line: Callable[[str, dict[str, Any], str], Line],
    x_label: str,
    y_label: str,
    caption: str,
    *,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Panels side by side: language, maths, and what is neither."""
    tasks = patterns["tasks"]
    known = [name for order in PAPER_ORDER for name in order]
    groups = (*PAPER_ORDER, [name for name in tasks if name not in known])
    panels = []
    for title, group in zip(_TITLES, groups, strict=True):
        lines = [
            line(f"{name}, {tasks[name]['mean_layers']:.1f}", tasks[name], COLOURS[number % len(COLOURS)])
            for number, name in enumerate(group)
            if name in tasks
        ]
        if lines:
            panels.append(Panel(title, x_label, y_label, lines, y_range, names_above=True, whole_x=True))
    return svg(panels, columns=min(2, len(panels)), height=_HEIGHT, caption=caption)
