"""The blue ramp: layers used -> background and text colour. Knows nothing of traces, figures or pages.

The anchors below are the only definition. The page's script receives them as data and interpolates with the same
integer arithmetic, so a token has one colour in the page and in exported files.
"""

from __future__ import annotations

import math

# Light to dark. OKLab lightness falls at every step, and faster towards the dark end, where most tokens lie.
ANCHORS = ("#f3f8fe", "#dceaf8", "#bfd8f0", "#9ac3e8", "#6ea9dc", "#468bcb", "#296cb1", "#164d8c", "#0a2d5c")


def fraction(layers_used: float, always_on: int, num_layers: int) -> float:
    """Place in the model's possible range: 0 when only the always-on layers ran, 1 when all did."""
    if num_layers <= always_on:
        return 1.0
    return min(1.0, max(0.0, (layers_used - always_on) / (num_layers - always_on)))


def colour(place: float) -> str:
    """The ramp at `place` (0..1) as #rrggbb."""
    scaled = min(1.0, max(0.0, place)) * (len(ANCHORS) - 1)
    lower = min(math.floor(scaled), len(ANCHORS) - 2)
    share = scaled - lower
    pairs = zip(_channels(ANCHORS[lower]), _channels(ANCHORS[lower + 1]), strict=True)
    return "#" + "".join(f"{math.floor(low + (high - low) * share + 0.5):02x}" for low, high in pairs)


def depth_colour(layers_used: float, always_on: int, num_layers: int) -> str:
    return colour(fraction(layers_used, always_on, num_layers))


def ink(background: str) -> str:
    """Black or white, whichever reads better: at least 4.58:1 on every colour there is."""
    return "#000000" if contrast(background, "#000000") >= contrast(background, "#ffffff") else "#ffffff"


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio, 1..21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(hex_colour: str) -> float:
    """WCAG 2 relative luminance, 0..1."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(hex_colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(hex_colour: str) -> tuple[int, int, int]:
    return int(hex_colour[1:3], 16), int(hex_colour[3:5], 16), int(hex_colour[5:7], 16)
