"""The report of recorded runs: complete, from the traces alone, and without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis.captions import figure_captions
from analysis.recorded import append
from analysis.report import write_report
from analysis.summary import summarize_runs
from flexidepth.errors import TraceError, UsageError
from tests.recorded_runs import EVERY, NONE, make_recorded

RUNS = [
    make_recorded(
        [("<b>x</b>", EVERY), (" 1", (True, False)), (" = 2.", NONE)] * (number + 1), task=task, number=number
    )
    for task in ("copy", "summarize", "repeat", "add", "my own/task")
    for number in range(2)
]


@pytest.fixture
def directory(tmp_path):
    append(tmp_path / "traces.jsonl", RUNS)
    return tmp_path


def test_everything_is_written_beside_the_traces(directory):
    path = write_report(directory)
    assert path == directory / "report.html"
    assert json.loads((directory / "summary.json").read_text()) == json.loads(json.dumps(summarize_runs(RUNS)))
    assert len(pd.read_parquet(directory / "tokens.parquet")) == sum(len(run.trace.steps) for run in RUNS)
    assert len((directory / "patterns" / "patterns.jsonl").read_text().splitlines()) == len(RUNS)
    names = {"bowls", "depths", "along", "classes"} | {
        f"map-{task}" for task in ("copy", "summarize", "repeat", "add", "my-own-task")
    }
    assert {file.stem for file in (directory / "figures").glob("*.svg")} == names


def test_every_figure_says_what_it_is_of(directory):
    write_report(directory)
    header = RUNS[0].trace.header
    for name in ("bowls", "depths", "along", "classes"):
        text = (directory / "figures" / f"{name}.svg").read_text()
        for words in (header.model, header.checkpoint, "up to 2 inputs", f"threshold {header.threshold:g}"):
            assert words in text, name
    captions = (directory / "figures" / "captions.txt").read_text().splitlines()
    assert captions == [f"{name}.svg: {words}" for name, words in figure_captions(RUNS).items()]


def test_the_page_holds_tables_figures_and_answers_and_loads_nothing(directory):
    text = write_report(directory).read_text()
    assert text.count("<svg ") == 4 + 5
    assert "default-src 'none'" in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "<b>x</b>" not in text
    assert "21.95 (6.05)" in text, "the paper's row is quoted"
    loads: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: loads.extend(  # type: ignore[method-assign]
        tag for name, _ in attributes if name in ("src", "href")
    )
    parser.feed(text)
    assert loads == []
    assert "<script" not in text


def test_the_same_runs_make_the_same_files(directory):
    before = {}
    for _ in range(2):
        write_report(directory)
        now = {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}
        assert not before or now == before
        before = now


def test_no_runs_and_broken_runs_are_refused(tmp_path):
    with pytest.raises(UsageError, match="python -m analysis run"):
        write_report(tmp_path)
    (tmp_path / "traces.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds no runs"):
        write_report(tmp_path)
    (tmp_path / "traces.jsonl").write_text("{}\n")
    with pytest.raises(TraceError, match="line 1"):
        write_report(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["traces.jsonl"]


def test_the_command_needs_no_torch_and_says_why_there_are_no_pictures(directory):
    """Torch and gradio are made impossible to import, as if they were not installed."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'gradio')));"
        f"sys.argv = ['analysis', 'report', {str(directory)!r}];"
        "from analysis.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"BROWSER_PATH": "/no/such/browser"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(directory / "report.html")
    assert done.stderr.startswith("note: PNG and PDF need")
    assert len(done.stderr.splitlines()) == 1
