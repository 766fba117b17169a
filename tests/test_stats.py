"""Tables against numbers counted by hand and against the trace's own summary."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats import depth_table, summary_table, token_table, usage_table
from flexidepth.trace import Trace
from tests.ui.sample_traces import HOSTILE, NUM_LAYERS, ROUTED, WORDS, make_header, make_steps, make_trace


def test_token_table_has_a_row_a_token_and_columns_a_layer() -> None:
    trace = make_trace()
    table = token_table(trace)
    assert len(table) == len(WORDS)
    assert table["text"].tolist() == list(WORDS)
    assert table["layers_used"].tolist() == [step.layers_used for step in trace.steps]
    assert table["stop"].tolist() == [None] * (len(WORDS) - 1) + ["end_of_turn"]
    for place, layer in enumerate(ROUTED):
        assert table[f"gate_{layer + 1}"].tolist() == [step.gates[place] for step in trace.steps]
        assert table[f"run_{layer + 1}"].tolist() == [step.executed[place] for step in trace.steps]
    runs = table[[f"run_{layer + 1}" for layer in ROUTED]].sum(axis=1) + NUM_LAYERS - len(ROUTED)
    assert runs.tolist() == table["layers_used"].tolist()


def test_probability_follows_from_logprob_and_may_be_missing() -> None:
    steps = make_steps()
    first = replace(steps[0], logprob=None, entropy=None, top=(), is_prompt=True)
    table = token_table(Trace(make_header(), (first, *steps[1:])))
    assert math.isnan(table["probability"][0])
    assert bool(table["is_prompt"][0])
    assert table["probability"][1] == pytest.approx(math.exp(steps[1].logprob or 0.0))


def test_usage_counts_generated_tokens_only() -> None:
    steps = make_steps()
    prompt = tuple(replace(step, is_prompt=True) for step in steps[:4])
    trace = Trace(make_header(), (*prompt, *steps[4:]))
    table = usage_table(trace)
    assert table["layer"].tolist() == list(range(1, NUM_LAYERS + 1))
    assert table["always_on"].tolist() == [layer not in ROUTED for layer in range(NUM_LAYERS)]
    for place, layer in enumerate(ROUTED):
        count = sum(step.executed[place] for step in steps[4:])
        assert table["tokens"][layer] == count
        assert table["share"][layer] == pytest.approx(count / len(steps[4:]))
    assert table["tokens"][0] == len(steps[4:])
    assert table["share"].tolist() == trace.summary()["per_layer_usage"]


def test_depth_table_counts_every_possible_depth() -> None:
    trace = make_trace()
    table = depth_table(trace)
    assert table["layers_used"].tolist() == list(range(NUM_LAYERS - len(ROUTED), NUM_LAYERS + 1))
    used = [step.layers_used for step in trace.steps]
    assert table["tokens"].tolist() == [used.count(depth) for depth in table["layers_used"]]
    assert table["share"].sum() == pytest.approx(1.0)
    assert (table["layers_used"] * table["share"]).sum() == pytest.approx(trace.summary()["mean_layers_used"])


def test_summary_table_keeps_the_summary() -> None:
    trace = make_trace()
    table = summary_table(trace).set_index("name")["value"]
    expected = trace.summary()
    del expected["per_layer_usage"]
    assert table.to_dict() == expected


def test_a_run_without_tokens_has_empty_tables() -> None:
    trace = Trace(make_header(), ())
    assert len(token_table(trace)) == 0
    assert f"gate_{NUM_LAYERS}" in token_table(trace).columns
    assert usage_table(trace)["share"].isna().all()
    assert usage_table(trace)["tokens"].sum() == 0
    assert depth_table(trace)["tokens"].sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *HOSTILE]), min_size=1, max_size=30), st.integers(0, 99))
def test_tables_agree_with_each_other(texts: list[str], seed: int) -> None:
    trace = make_trace(texts, seed=seed)
    tokens, usage, depths = token_table(trace), usage_table(trace), depth_table(trace)
    assert usage["tokens"].sum() == tokens["layers_used"].sum() == (depths["layers_used"] * depths["tokens"]).sum()
    assert isinstance(tokens, pd.DataFrame)


def test_statistics_and_figures_load_no_torch() -> None:
    code = (
        "import sys, analysis.stats, analysis.figures, analysis.views.export;"
        "print('torch' in sys.modules, 'gradio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
