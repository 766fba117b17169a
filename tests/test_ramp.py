"""The ramp is monotone, readable, and fixed to the model's possible range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.ramp import ANCHORS, colour, contrast, depth_colour, fraction, ink, luminance


def test_ends_and_anchors() -> None:
    assert [colour(place / 8) for place in range(9)] == list(ANCHORS)
    assert depth_colour(15, 15, 30) == ANCHORS[0]
    assert depth_colour(30, 15, 30) == ANCHORS[-1]
    assert depth_colour(3, 15, 30) == ANCHORS[0]  # never outside


@given(st.floats(0, 1), st.floats(0, 1))
def test_deeper_is_never_lighter(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert luminance(colour(low)) >= luminance(colour(high))


@pytest.mark.parametrize(("always_on", "num_layers"), [(15, 30), (16, 32), (0, 4), (8, 36)])
def test_neighbouring_depths_differ_and_all_are_readable(always_on: int, num_layers: int) -> None:
    colours = [depth_colour(depth, always_on, num_layers) for depth in range(always_on, num_layers + 1)]
    assert len(set(colours)) == len(colours)
    for background in colours:
        assert ink(background) in ("#000000", "#ffffff")
        assert contrast(background, ink(background)) >= 4.5


@given(st.integers(0, 0xFFFFFF))
def test_black_or_white_reads_on_anything(value: int) -> None:
    background = f"#{value:06x}"
    assert contrast(background, ink(background)) >= 4.5


def test_known_contrasts() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert fraction(30, 30, 30) == 1.0
