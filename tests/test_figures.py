"""Figures hold the table's numbers, in colours that every plotly.js reads, and no text that it would interpret."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.figures import DARK, LIGHT, bowl, gate_map
from analysis.ramp import contrast
from analysis.stats import usage_table
from flexidepth.trace import Trace
from tests.ui.sample_traces import HOSTILE, NUM_LAYERS, ROUTED, WORDS, make_header, make_steps, make_trace

FIGURES = [gate_map, bowl]


def test_gate_map_shows_every_gate() -> None:
    trace = make_trace()
    heat = gate_map(trace).data[0]
    assert list(heat.x) == list(range(1, len(WORDS) + 1))
    assert list(heat.y) == [layer + 1 for layer in ROUTED]
    assert np.asarray(heat.z) == pytest.approx(np.array([step.gates for step in trace.steps]).T, abs=1e-6)
    assert (heat.zmin, heat.zmax) == (0, 1)
    verdicts = [[cell[1] for cell in row] for row in heat.customdata]
    for place, row in enumerate(verdicts):
        assert row == ["ran" if step.executed[place] else "skipped" for step in trace.steps]


def test_prompt_tokens_stay_out_of_figures() -> None:
    steps = make_steps()
    trace = Trace(make_header(), (replace(steps[0], is_prompt=True), *steps[1:]))
    assert len(gate_map(trace).data[0].x) == len(WORDS) - 1


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_scale_breaks_at_the_threshold(threshold: float, look: str) -> None:
    trace = Trace(make_header(threshold=threshold), make_steps())
    scale = gate_map(trace, dark=look == "dark").data[0].colorscale
    places = [place for place, _ in scale]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)
    if 0 < threshold < 1:
        below, above = [colour for place, colour in scale if place == threshold]
        assert below != above


def test_bowl_shows_every_share() -> None:
    trace = make_trace()
    always, routed = bowl(trace).data
    table = usage_table(trace)
    assert list(always.x) == list(range(1, NUM_LAYERS - len(ROUTED) + 1))
    assert set(always.y) == {100.0}
    assert list(routed.x) == [layer + 1 for layer in ROUTED]
    assert list(routed.y) == pytest.approx((table["share"][list(ROUTED)] * 100).tolist())
    assert always.marker.pattern.shape == "/"
    assert always.marker.color != routed.marker.color


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("dark", [False, True])
def test_papers_are_solid_and_text_is_readable(figure: object, dark: bool) -> None:
    assert callable(figure)
    drawn: go.Figure = figure(make_trace(), dark=dark)
    look = DARK if dark else LIGHT
    assert drawn.layout.paper_bgcolor == drawn.layout.plot_bgcolor == look.paper
    assert contrast(look.paper, look.text) >= 7
    assert contrast(look.paper, look.muted) >= 4.5


@pytest.mark.parametrize("figure", FIGURES)
def test_colours_are_hex_and_the_template_is_small(figure: object) -> None:
    assert callable(figure)
    text = figure(make_trace()).to_json()
    assert not re.search(r"\b(rgba?|hsla?|hsv|oklch)\(", text)
    assert json.loads(text)["layout"].get("template") in (None, {})
    assert len(text) < 60_000


def test_hostile_tokens_are_escaped() -> None:
    figure = gate_map(make_trace(HOSTILE))
    texts = [*figure.layout.xaxis.ticktext, *(cell[0] for cell in figure.data[0].customdata[0])]
    for text in texts:
        assert "<" not in text
        assert "$" not in text
        assert "%{" not in text
        assert not {unicodedata.category(character) for character in text.replace("\u200d", "")} & {"Cc", "Cf", "Cs"}
        text.encode("utf-8")  # no half characters
    assert figure.data[0].customdata[0][0][0].startswith("&lt;img")


def test_long_runs_have_numbers_and_empty_runs_have_axes() -> None:
    assert gate_map(make_trace(["x"] * 61)).layout.xaxis.ticktext is None
    assert len(gate_map(make_trace(["x"] * 60)).layout.xaxis.ticktext) == 60
    empty = Trace(make_header(), ())
    assert np.asarray(gate_map(empty).data[0].z).shape == (len(ROUTED), 0)
    assert bowl(empty).to_json()
