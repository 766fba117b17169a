"""The library: what ships can be read, what a visitor opens is read or refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from analysis import library
from analysis.library import read_file, recorded_entries
from analysis.recorded import append
from analysis.tasks import TASKS
from flexidepth.errors import TraceError
from tests.recorded_runs import EVERY, NONE, make_recorded
from tests.ui.sample_traces import make_trace

RUNS = [make_recorded([("a", EVERY), ("b", NONE)], task="copy", number=number) for number in range(3)]


def test_the_shipped_runs_are_of_every_task_and_of_the_shipped_checkpoint():
    entries = recorded_entries()
    assert {entry.title.split(":")[0] for entry in entries} == {task.name for task in TASKS if task.kind != "chat"}
    assert {entry.source for entry in entries} == {"recorded run of smollm2-135m"}
    card = json.loads((library.RECORDED_DIRECTORY.parent / "checkpoints/smollm2-135m/results.json").read_text())
    assert {entry.trace.header.checkpoint for entry in entries} == {card["checkpoint"]}
    assert {entry.trace.header.routes for entry in entries} == {"learned"}
    assert all(entry.trace.generated[-1].stop for entry in entries), "none is cut off"


def test_a_saved_trace_is_one_entry(tmp_path):
    path = tmp_path / "run.jsonl"
    trace = make_trace()
    path.write_text("".join(line + "\n" for line in trace.to_lines()))
    (entry,) = read_file(path, "my run.jsonl")
    assert entry.trace == trace
    assert entry.source == "my run.jsonl"


def test_recorded_runs_are_an_entry_each(tmp_path):
    path = tmp_path / "traces.jsonl"
    append(path, RUNS)
    entries = read_file(path, "traces.jsonl")
    assert [entry.trace for entry in entries] == [run.trace for run in RUNS]
    assert entries[0].title == "copy: made for a test"


GOOD = "".join(line + "\n" for line in make_trace().to_lines())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no file of JSON lines"),
        ("words\n", "no file of JSON lines"),
        (b"\xff\xfe", "no file of JSON lines"),
        ("[1, 2]\n", "line 1"),
        ("{}\n", "line 1"),
        (GOOD[: len(GOOD) // 2], "theirs.jsonl cannot be read"),
        ("".join(GOOD.splitlines(keepends=True)[:-1]), "cut off"),
        (RUNS[0].line() + "\n{}\n", "theirs.jsonl line 2"),
        (GOOD.replace('"version":1', '"version":99'), "version 99"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_visitors_name_for_it(tmp_path, content, words):
    path = tmp_path / "upload.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TraceError, match=words) as refused:
        read_file(path, "theirs.jsonl")
    assert "theirs.jsonl" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_large_and_too_many_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "many.jsonl"
    append(path, RUNS)
    monkeypatch.setattr(library, "MOST_RUNS", 2)
    with pytest.raises(TraceError, match="more than 2 runs"):
        read_file(path, "many.jsonl")
    monkeypatch.setattr(library, "MOST_RUNS", 3)
    assert len(read_file(path, "many.jsonl")) == 3
    monkeypatch.setattr(library, "MOST_BYTES", 100)
    with pytest.raises(TraceError, match="larger than"):
        read_file(path, "many.jsonl")


def test_importing_it_loads_no_torch():
    code = "import sys, analysis.library; assert not {'torch', 'transformers', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
