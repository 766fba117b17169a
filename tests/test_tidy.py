"""The tidy table: a row a token, the same numbers as in the traces, in both files."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.recorded import Recorded
from analysis.tidy import tidy_table, write_tables
from flexidepth.errors import UsageError
from flexidepth.trace import Trace
from tests.recorded_runs import EVERY, NONE, make_recorded

FIRST = (True, False)


@pytest.fixture
def runs():
    return [
        make_recorded([(" a", EVERY), ("=1+1", FIRST)], task="copy", number=0, before=[("p", NONE)]),
        make_recorded([("line\nbreak", NONE), ("\ud83d", EVERY)], task="add", number=3),
    ]


def test_a_row_a_token_with_its_task_prompt_and_layers(runs):
    table = tidy_table(runs)
    assert table["task"].tolist() == ["copy"] * 3 + ["add"] * 2
    assert table["prompt"].tolist() == [0, 0, 0, 3, 3]
    assert table["position"].tolist() == [0, 1, 2, 0, 1]
    assert table["generated"].tolist() == [False, True, True, True, True]
    assert table["layers_used"].tolist() == [2, 4, 3, 2, 4]
    assert table["run_3"].tolist() == [False, True, True, False, True], "layers count from 1"
    assert table["run_4"].tolist() == [False, True, False, False, True]
    assert table["gate_4"].tolist() == pytest.approx([0.1, 0.9, 0.1, 0.1, 0.9])
    assert (table["layers_used"] == 2 + table["run_3"] + table["run_4"]).all()


def test_no_runs_make_an_empty_table():
    table = tidy_table([])
    assert len(table) == 0
    assert "layers_used" in table


def test_runs_of_different_models_are_refused(runs):
    other = Recorded(runs[1].prompt, Trace(replace(runs[1].trace.header, routed_layers=(1, 2)), runs[1].trace.steps))
    with pytest.raises(UsageError, match="different routed layers"):
        tidy_table([runs[0], other])


def test_both_files_hold_the_table(runs, tmp_path):
    table = tidy_table(runs)
    parquet, csv = write_tables(table, tmp_path)
    back = pd.read_parquet(parquet)
    assert back["token"].tolist() == ["p", " a", "=1+1", "line\nbreak", "?"], "half an emoji fits no file"
    pd.testing.assert_frame_equal(back.drop(columns="token"), table.drop(columns="token").astype({"task": "str"}))
    cells = pd.read_csv(csv, keep_default_na=False)
    assert cells["token"].tolist() == ["p", " a", "'=1+1", "line\nbreak", "\\ud83d"], "nothing a spreadsheet runs"
    assert cells["layers_used"].tolist() == table["layers_used"].tolist()
    assert list(cells.columns) == list(table.columns)
