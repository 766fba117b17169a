"""One run as a layer x token map in SVG: blue where a routed layer ran, pale where it was skipped.

Knows traces; knows no torch and no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from analysis.ramp import ANCHORS
from flexidepth.trace import Trace

_LEFT, _TOP, _BELOW = 44.0, 8.0, 34.0
_CELL = 7.0  # height of a layer
_RAN, _SKIPPED, _INK = ANCHORS[6], ANCHORS[0], "#64748b"


def map_svg(trace: Trace, *, width: int = 760) -> str:
    """Generated tokens from left to right, routed layers from below to above as they follow each other."""
    steps, layers = trace.generated, trace.header.routed_layers
    tall = _CELL * len(layers)
    cell = (width - _LEFT - 8) / max(1, len(steps))
    parts = []
    for place, layer in enumerate(layers):
        y = _TOP + tall - _CELL * (place + 1)
        for first, length in _stretches([step.executed[place] for step in steps]):
            parts.append(_rect(_LEFT + first * cell, y + 0.5, length * cell, _CELL - 1, _RAN))
        if place % 4 == 0 or layer == layers[-1]:
            parts.append(_text(_LEFT - 6, y + _CELL - 0.5, str(layer + 1), "end"))
    every = max(1, round(len(steps) / 10 / 5) * 5) if len(steps) > 10 else 1
    for number in range(0, len(steps), every):
        parts.append(_text(_LEFT + (number + 0.5) * cell, _TOP + tall + 13, str(number + 1), "middle"))
    parts.append(_text(width / 2, _TOP + tall + 28, "generated token; rows are routed layers", "middle"))
    height = _TOP + tall + _BELOW
    label = f"Which of {len(layers)} routed layers ran for each of {len(steps)} tokens"
    ground = _rect(0, 0, width, height, "#ffffff") + _rect(_LEFT, _TOP, width - _LEFT - 8, tall, _SKIPPED)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" role="img" '
        f'aria-label="{escape(label)}" font-family="Helvetica, Arial, sans-serif" font-size="10">'
        f"{ground}{''.join(parts)}</svg>\n"
    )


def _stretches(executed: Sequence[bool]) -> list[tuple[int, int]]:
    """First token and length of every stretch in which the layer ran."""
    found, place = [], 0
    for ran, group in groupby(executed):
        length = len(list(group))
        if ran:
            found.append((place, length))
        place += length
    return found


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_INK}">{escape(text)}</text>'
