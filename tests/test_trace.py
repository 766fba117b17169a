"""Trace values: round trips, refusals, and the numbers of a run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexidepth.errors import TraceError
from flexidepth.trace import Candidate, TokenStep, Trace, TraceHeader

HEADER = TraceHeader(
    run_id="r1",
    model="tiny",
    checkpoint="c0ffee",
    num_layers=4,
    routed_layers=(2, 3),
    threshold=0.5,
    gate_scaling="scaled",
    routes="learned",
    engine="reference",
    dtype="float32",
    seed=0,
    temperature=0.0,
    top_p=1.0,
    max_new_tokens=8,
    chat=True,
    prompt="hi",
    versions={"torch": "2"},
)


def step(index: int, executed: tuple[bool, ...], seconds: float = 0.1, **more) -> TokenStep:
    values = {
        "index": index,
        "token_id": 5,
        "text": "a",
        "is_prompt": False,
        "logprob": -0.5,
        "entropy": 1.0,
        "top": (Candidate(5, "a", -0.5),),
        "gates": tuple(0.9 if run else 0.1 for run in executed),
        "executed": executed,
        "layers_used": 2 + sum(executed),
        "seconds": seconds,
    }
    return TokenStep(**values | more)


TRACE = Trace(
    HEADER,
    (
        step(0, (True, True), is_prompt=True),
        step(1, (True, True), seconds=1.0),
        step(2, (True, False), seconds=0.2),
        step(3, (False, False), seconds=0.3, stop="end_of_turn", text=""),
    ),
)


def test_summary_by_hand():
    summary = TRACE.summary()
    assert summary["tokens"] == 3
    assert summary["prompt_tokens"] == 1
    assert summary["mean_layers_used"] == 3.0
    assert summary["std_layers_used"] == pytest.approx((2 / 3) ** 0.5)
    assert summary["per_layer_usage"] == [1.0, 1.0, pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert summary["tokens_per_second"] == pytest.approx(2 / 0.5), "the first step also paid for the prompt"
    assert summary["stop"] == "end_of_turn"
    assert TRACE.text == "aa"


def test_an_empty_run_has_no_means():
    summary = Trace(HEADER, ()).summary()
    assert summary["tokens"] == 0
    assert summary["mean_layers_used"] is None
    assert summary["per_layer_usage"] == [None] * 4


steps = st.builds(
    step,
    st.integers(0, 9),
    st.tuples(st.booleans(), st.booleans()),
    text=st.text(st.characters(), max_size=4),
    logprob=st.none() | st.floats(-50, 0),
    top=st.lists(st.builds(Candidate, st.integers(0, 9), st.text(max_size=3), st.floats(-50, 0)), max_size=3).map(
        tuple
    ),
    stop=st.none() | st.sampled_from(["end_of_turn", "context_limit"]),
)


@given(st.lists(steps, max_size=5), st.text(st.characters()))
def test_round_trip_of_any_text(made, prompt):
    """Half emoji, line separators and control characters come back as they were; a line is a line."""
    trace = Trace(replace(HEADER, prompt=prompt), tuple(made))
    lines = list(trace.to_lines())
    assert all("\n" not in line and line.isascii() for line in lines)
    assert Trace.from_lines("\n".join(lines).splitlines()) == trace


def test_infinities_become_null_and_newer_fields_are_left_alone():
    line = next(iter(Trace(HEADER, (step(0, (True, True), logprob=float("-inf")),)).to_lines()))
    lines = list(Trace(HEADER, (step(0, (True, True), logprob=float("-inf")),)).to_lines())
    assert json.loads(lines[1])["logprob"] is None
    lines[1] = json.dumps(json.loads(lines[1]) | {"colour": "blue"})
    assert Trace.from_lines([line, *lines[1:]]).steps[0].logprob is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], "cut off"),
        (lambda lines: lines[1:], "no trace header"),
        (lambda lines: [lines[0].replace('"version":1', '"version":9'), *lines[1:]], "version 9"),
        (lambda lines: [*lines[:2], lines[2][:40], *lines[3:]], "line 3"),
        (lambda lines: [*lines[:2], "[1]", *lines[3:]], "line 3"),
        (lambda lines: [lines[0].replace("[2,3]", "[3]"), *lines[1:]], "does not have 1 gates"),
    ],
)
def test_broken_files_are_refused_with_the_reason(change, words):
    with pytest.raises(TraceError, match=words):
        Trace.from_lines(change(list(TRACE.to_lines())))


def test_importing_the_values_loads_no_torch():
    heavy = "{'torch', 'transformers', 'gradio'}"
    code = f"import sys, flexidepth.trace, analysis.stats; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
