"""The layer x token map: blue exactly where a layer ran."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.svg_map import _CELL, _LEFT, _RAN, _TOP, map_svg
from tests.recorded_runs import EVERY, NONE, make_recorded

RECT = "{http://www.w3.org/2000/svg}rect"
WIDTH = 400


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_blue_stretches_cover_the_tokens_that_ran_and_no_others(executed):
    run = make_recorded([("t", each) for each in executed], before=[("p", EVERY)])
    chart = ElementTree.fromstring(map_svg(run.trace, width=WIDTH))
    cell = (WIDTH - _LEFT - 8) / len(executed)
    found = set()
    for rect in (rect.attrib for rect in chart.iter(RECT) if rect.attrib["fill"] == _RAN):
        layer = 1 - round((float(rect["y"]) - 0.5 - _TOP) / _CELL)  # the later layer stands above
        first = round((float(rect["x"]) - _LEFT) / cell)
        for token in range(first, first + round(float(rect["width"]) / cell)):
            found.add((token, layer))
    assert found == {(token, layer) for token, each in enumerate(executed) for layer in (0, 1) if each[layer]}


@pytest.mark.parametrize("tokens", [1, 9, 200, 1500])
def test_it_says_what_it_shows_at_any_length(tokens):
    chart = ElementTree.fromstring(map_svg(make_recorded([("t", NONE)] * tokens).trace))
    assert chart.attrib["aria-label"] == f"Which of 2 routed layers ran for each of {tokens} tokens"
    words = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert {"3", "4", "1"} <= set(words), "layers and tokens count from 1"
    assert len(words) < 30
