"""Recorded runs on disk: what is written is read again, and a broken file is named by its line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.recorded import Prompt, Recorded, append, read_recorded, whole_lines
from flexidepth.errors import TraceError, UsageError
from flexidepth.trace import Trace
from tests.test_trace import HEADER, step, steps


def recorded(number: int = 0, text: str = "hi") -> Recorded:
    trace = Trace(replace(HEADER, prompt=text), (step(0, (True, False)), step(1, (False, False), stop="end_of_turn")))
    return Recorded(Prompt("copy", number, f"title {number}", text, text), trace)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["copy", "add"]),
    st.integers(0, 99),
    st.text(st.characters()),
    st.text(st.characters()),
    st.text(st.characters()),
    st.lists(steps, max_size=4),
)
def test_round_trip_of_any_text(task, number, title, given_input, text, made):
    """Half emoji, line separators and control characters come back as they were; a line is a line."""
    run = Recorded(Prompt(task, number, title, given_input, text), Trace(replace(HEADER, prompt=text), tuple(made)))
    line = run.line()
    assert line.isascii()
    assert "\n" not in line
    assert Recorded.from_dict(json.loads(line)) == run


def test_runs_come_back_from_a_file_in_order(tmp_path):
    path = tmp_path / "traces.jsonl"
    runs = [recorded(number, f"text\u2028{number}") for number in range(5)]
    append(path, runs[:2])
    append(path, [])
    append(path, runs[2:])
    assert list(read_recorded(path)) == runs
    assert path.read_bytes().count(b"\n") == 5


GOOD = recorded().line().encode()


@pytest.mark.parametrize(
    "broken",
    [
        GOOD[:-30],
        b"",
        b"[1]",
        b"null",
        b"{}",
        GOOD.replace(b'"steps":', b'"leaps":'),
        GOOD.replace(b'"number":0,', b""),
        GOOD.replace(b'"run_id":"r1",', b""),
        GOOD.replace(b'"version":1', b'"version":9'),
        GOOD.replace(b'"gates":[0.9,0.1]', b'"gates":7'),
        json.dumps(json.loads(GOOD) | {"steps": ["s"]}).encode(),
        json.dumps(json.loads(GOOD) | {"header": "h"}).encode(),
        GOOD.replace(b"title 0", b"gr\xfc\xdfe"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path, broken):
    assert broken != GOOD
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"\n".join([GOOD, GOOD, broken, GOOD, b""]))
    found = read_recorded(path)
    assert [next(found), next(found)] == [recorded(), recorded()]
    with pytest.raises(TraceError, match=r"traces\.jsonl line 3\b") as refused:
        next(found)
    assert "record" in str(refused.value), "says what to do"
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_missing_file_says_how_to_make_one(tmp_path, name):
    with pytest.raises(UsageError, match="python -m analysis run --out") as refused:
        list(read_recorded(tmp_path / name))
    assert str(tmp_path) in str(refused.value)


def test_a_half_written_line_is_cut_off_and_the_rest_kept(tmp_path):
    path = tmp_path / "traces.jsonl"
    runs = [recorded(number) for number in range(3)]
    append(path, runs)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole) + 1, 13):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert whole_lines(path) == kept
        assert path.read_bytes() == whole[: [0, *ends][kept]]
        append(path, runs[kept:])
        assert path.read_bytes() == whole


def test_whole_lines_are_left_alone(tmp_path):
    path = tmp_path / "traces.jsonl"
    assert whole_lines(path) == 0
    assert not path.exists()
    append(path, [recorded(number, "x" * 5000) for number in range(20)])
    before = path.read_bytes()
    assert len(before) > 2 * 8192, "more than one read's worth"
    assert whole_lines(path) == 20
    assert path.read_bytes() == before
    path.write_bytes(before + GOOD[:100])
    assert whole_lines(path) == 20
    assert path.read_bytes() == before


def test_importing_the_values_loads_no_torch():
    code = "import sys, analysis.recorded; assert not {'torch', 'transformers', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
