"""Line and dot charts as stand-alone SVG text, for cards and reports that are read without a script or a browser.

Knows numbers, names and colours; knows no traces, no model and no page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 14.0, 30.0, 44.0  # margins of a panel
_INK, _FAINT, _GRID = "#334155", "#64748b", "#e2e8f0"
COLOURS = ("#1d4f91", "#b45309", "#0f766e", "#9d174d", "#4d7c0f", "#6d28d9")


@dataclass(frozen=True)
class Line:
    """One curve. band: lower and upper ends of an interval around each point. marks: draw the points; joined: draw the
    line between them. notes: a word beside each point.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str
    band: Sequence[tuple[float, float]] | None = None
    marks: bool = False
    joined: bool = True
    notes: Sequence[str] | None = None


@dataclass(frozen=True)
class Panel:
    """names_above: short names in a row beside the title, out of the curves' way, and not inside the box."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = field(default_factory=tuple)
    y_range: tuple[float, float] | None = None
    x_range: tuple[float, float] | None = None
    names_above: bool = False
    whole_x: bool = False  # layers and tokens are counted: no tick between two of them


@dataclass(frozen=True)
class Row:
    """One line of a dot chart: a name, a value and the interval around it."""

    name: str
    value: float
    ends: tuple[float, float]


def svg(panels: Sequence[Panel], *, columns: int, width: int = 760, height: int = 250, caption: str = "") -> str:
    """Panels in rows of `columns`, each `height` high, with a caption below."""
    rows = math.ceil(len(panels) / columns)
    one = width / columns
    drawn = "".join(
        f'<g transform="translate({one * (place % columns):.1f} {height * (place // columns)})">'
        f"{_panel(panel, one, height)}</g>"
        for place, panel in enumerate(panels)
    )
    return _document(", ".join(panel.title for panel in panels), drawn, width, rows * height, caption)


def dots(title: str, label: str, rows: Sequence[Row], *, width: int = 760, caption: str = "") -> str:
    """Names on the left, a dot and its interval for each, on one scale below."""
    left, right = 190.0, width - 110.0
    bottom = _TOP + 24.0 * len(rows)
    ends = [end for row in rows for end in row.ends] or [0.0, 1.0]
    low, high = _padded(min(ends), max(ends))
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / span

    parts = [_text(_LEFT, 16, title, "start", _INK, weight="bold")]
    for tick in ticks(low, high):
        x = place(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="{_GRID}"/>')
        parts.append(_text(x, bottom + 16, _number(tick), "middle", _FAINT))
    for number, row in enumerate(rows):
        y = _TOP + 24.0 * number + 12
        parts.append(_text(left - 10, y + 4, row.name, "end", _INK))
        parts.append(
            f'<line x1="{place(row.ends[0]):.1f}" y1="{y}" x2="{place(row.ends[1]):.1f}" y2="{y}" '
            f'stroke="{COLOURS[0]}" stroke-width="2" opacity="0.45"/>'
        )
        parts.append(f'<circle cx="{place(row.value):.1f}" cy="{y}" r="4" fill="{COLOURS[0]}"/>')
        parts.append(_text(right + 12, y + 4, f"{row.value:.2f}", "start", _INK))
    parts.append(_text((left + right) / 2, bottom + 34, label, "middle", _FAINT))
    return _document(title, "".join(parts), width, bottom + _BOTTOM, caption)


def _document(title: str, drawn: str, width: float, height: float, caption: str) -> str:
    """A whole SVG file, with a caption below."""
    whole = height + (24 if caption else 4)
    below = _text(width / 2, whole - 8, caption, "middle", _FAINT) if caption else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole:g}" role="img" '
        f'aria-label="{escape(title)}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="11"><rect width="{width}" height="{whole:g}" '
        f'fill="#ffffff"/>{drawn}{below}</svg>\n'
    )


def _panel(panel: Panel, width: float, height: float) -> str:
    box = (_LEFT, _TOP, width - _RIGHT, height - _BOTTOM)  # left, top, right, bottom
    xs = [x for line in panel.lines for x in line.xs]
    ys = [y for line in panel.lines for y in line.ys] + [
        end for line in panel.lines for pair in line.band or () for end in pair
    ]
    x_low, x_high = panel.x_range or (min(xs), max(xs))
    y_low, y_high = panel.y_range or _padded(min(ys), max(ys))
    x_span, y_span = (x_high - x_low) or 1.0, (y_high - y_low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            box[0] + (box[2] - box[0]) * (x - x_low) / x_span,
            box[3] - (box[3] - box[1]) * (y - y_low) / y_span,
        )

    parts = [_text(box[0], 16, panel.title, "start", _INK, weight="bold")]
    for tick in ticks(y_low, y_high):
        _, y = place(x_low, tick)
        parts.append(f'<line x1="{box[0]}" y1="{y:.1f}" x2="{box[2]:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>')
        parts.append(_text(box[0] - 6, y + 4, _number(tick), "end", _FAINT))
    for tick in ticks(x_low, x_high, whole=panel.whole_x):
        x, _ = place(tick, y_low)
        parts.append(_text(x, box[3] + 16, _number(tick), "middle", _FAINT))
    parts += [_line(line, place) for line in panel.lines]
    named = [line for line in panel.lines if line.name]
    if panel.names_above:
        names = "".join(
            f'<tspan fill="{line.colour}" dx="{10 if number else 0}">{escape(line.name)}</tspan>'
            for number, line in enumerate(named)
        )
        parts.append(f'<text x="{box[2]:.1f}" y="16" text-anchor="end">{names}</text>')
    else:
        parts += [
            _text(box[2], box[1] + 12 + 14 * number, line.name, "end", line.colour)
            for number, line in enumerate(named)
        ]
    parts.append(_text((box[0] + box[2]) / 2, box[3] + 34, panel.x_label, "middle", _FAINT))
    middle = (box[1] + box[3]) / 2
    turned = f'transform="rotate(-90 12 {middle:.1f})"'
    parts.append(_text(12, middle, panel.y_label, "middle", _FAINT, extra=turned))
    return "".join(parts)


def _line(line: Line, place: Callable[[float, float], tuple[float, float]]) -> str:
    points = [place(x, y) for x, y in zip(line.xs, line.ys, strict=True)]
    parts = []
    if line.band is not None:
        upper = [place(x, high) for x, (_, high) in zip(line.xs, line.band, strict=True)]
        lower = [place(x, low) for x, (low, _) in zip(line.xs, line.band, strict=True)]
        parts.append(f'<polygon points="{_points([*upper, *reversed(lower)])}" fill="{line.colour}" opacity="0.15"/>')
    if line.joined:
        parts.append(f'<polyline points="{_points(points)}" fill="none" stroke="{line.colour}" stroke-width="1.7"/>')
    if line.marks:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{line.colour}"/>' for x, y in points]
    for (x, y), note in zip(points, line.notes or (), strict=bool(line.notes)):
        parts.append(_text(x + 6, y + 12, note, "start", line.colour))
    return "".join(parts)


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Four to eight round numbers in a range; of whole ones there may be fewer."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span))
    step *= next(factor for factor in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if span / (step * factor) < 8 - 1e-9)
    step = max(1.0, float(round(step))) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.05 * ((high - low) or 1.0)
    return low - room, high + room


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _text(x: float, y: float, text: str, anchor: str, colour: str, *, weight: str = "normal", extra: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}" {extra}>'
        f"{escape(text)}</text>"
    )
