"""The data set of patterns: what datasets reads back is what the runs hold."""

from __future__ import annotations

from datasets import load_dataset

from analysis.flexipatterns import write_patterns
from tests.recorded_runs import EVERY, NONE, make_recorded

RUNS = [
    make_recorded([(" a", EVERY), ("b", (True, False))], task="copy", number=0, before=[("p", NONE)]),
    make_recorded([("\u2028c", NONE)], task="add", number=2),
]


def test_datasets_reads_the_lines(tmp_path):
    path = write_patterns(RUNS, tmp_path / "patterns")
    loaded = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    first, second = loaded
    assert first["task"] == "copy"
    assert first["tokens"] == [" a", "b"], "generated tokens alone"
    assert first["layers_used"] == [4, 3]
    assert first["masks"] == ["11", "10"]
    assert first["prompt"] == RUNS[0].trace.header.prompt
    assert (second["prompt_id"], second["tokens"], second["masks"]) == (2, ["\u2028c"], ["00"])


def test_the_card_says_what_made_them_and_names_every_column(tmp_path):
    write_patterns(RUNS, tmp_path)
    card = (tmp_path / "README.md").read_text()
    header = RUNS[0].trace.header
    for words in (header.checkpoint, f"threshold {header.threshold:g}", "2 greedy", "layers from 0: 2, 3", "license:"):
        assert words in card
    for column in ("task", "prompt_id", "prompt", "tokens", "token_ids", "layers_used", "masks"):
        assert column in card


def test_no_runs_make_no_card(tmp_path):
    assert write_patterns([], tmp_path).read_text() == ""
    assert not (tmp_path / "README.md").exists()
