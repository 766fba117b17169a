"""Collections: every input of every task once, and a killed collection ends as an undisturbed one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

import flexidepth
from analysis import collect as collecting
from analysis.collect import Collection, collect
from analysis.prompts import prompts, tasks_of
from analysis.recorded import read_recorded
from flexidepth import checkpoint
from flexidepth.errors import UsageError
from tests.conftest import OWN, build_model, byte_tokenizer

SMALL = Collection(suite="math", n=2, max_new_tokens=4, batch=4, temperature=1.0, seed=3)
RUNS = 6  # two lists of three tasks: a whole batch and a half one


def lines(path):
    """The runs of a file without what differs from one recording to the next."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for run in found:
        del run["header"]["run_id"], run["header"]["versions"]
        for step in run["steps"]:
            del step["seconds"]
    return found


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """The directory of a collection that nothing disturbed."""
    directory = tmp_path_factory.mktemp("uncut")
    collect(build_model(), byte_tokenizer(), SMALL, directory)
    return directory


def cut_copy(uncut, directory, size):
    shutil.copytree(uncut, directory)
    path = directory / "traces.jsonl"
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_every_prompt_is_answered_once_in_order(model, tokenizer, uncut):
    runs = list(read_recorded(uncut / "traces.jsonl"))
    assert [run.prompt for run in runs] == prompts("math", 2)
    assert len(runs) == RUNS
    for run in runs:
        single = flexidepth.generate(
            model, tokenizer, run.prompt.text, max_new_tokens=4, temperature=1.0, seed=SMALL.seed
        )
        assert [step.token_id for step in run.trace.steps] == [step.token_id for step in single.steps]
        assert [step.executed for step in run.trace.steps] == [step.executed for step in single.steps]


def test_settings_reach_the_runs(model, tokenizer, tmp_path):
    settings = Collection(suite="math", n=1, routes="none", max_new_tokens=2, temperature=0.5, seed=9, threshold=0.3)
    for run in read_recorded(collect(model, tokenizer, settings, tmp_path)):
        header = run.trace.header
        assert (header.routes, header.max_new_tokens, header.temperature) == ("none", 2, 0.5)
        assert (header.seed, header.threshold, len(run.trace.steps)) == (9, 0.3, 2)


@pytest.mark.parametrize("spare", [0, 1, 200])
@pytest.mark.parametrize("count", range(RUNS + 1))
def test_a_cut_collection_ends_as_an_uncut_one(model, tokenizer, uncut, tmp_path, count, spare):
    """count: whole lines that were written; spare: bytes of the line after them."""
    whole = (uncut / "traces.jsonl").read_bytes().splitlines(keepends=True)
    kept = b"".join(whole[:count])
    path = cut_copy(uncut, tmp_path / "cut", len(kept) + spare)
    reports = []
    assert collect(model, tokenizer, SMALL, path.parent, lambda *done: reports.append(done)) == path
    assert path.read_bytes().startswith(kept), "what was there stays, byte for byte"
    assert lines(path) == lines(uncut / "traces.jsonl")
    assert reports == sorted(reports)
    assert reports[-1] == (RUNS, RUNS)


def test_a_collection_killed_between_batches_goes_on(model, tokenizer, uncut, tmp_path):
    def kill(done, of_all):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(model, tokenizer, SMALL, tmp_path, kill)
    path = tmp_path / "traces.jsonl"
    assert len(lines(path)) == SMALL.batch
    collect(model, tokenizer, SMALL, tmp_path)
    assert lines(path) == lines(uncut / "traces.jsonl")


def test_what_is_there_is_not_computed_again(model, tokenizer, uncut, tmp_path, monkeypatch):
    batches = []
    real = collecting.generate_batch
    monkeypatch.setattr(
        collecting, "generate_batch", lambda *given, **more: batches.append(given[2]) or real(*given, **more)
    )
    whole = (uncut / "traces.jsonl").read_bytes().splitlines(keepends=True)
    path = cut_copy(uncut, tmp_path / "cut", len(b"".join(whole[:4])))
    collect(model, tokenizer, SMALL, path.parent)
    assert batches == [[prompt.text for prompt in prompts("math", 2)[4:]]]
    collect(model, tokenizer, SMALL, path.parent)
    assert len(batches) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "all"},
        {"n": 3},
        {"routes": "all"},
        {"max_new_tokens": 5},
        {"temperature": 0.5},
        {"seed": 4},
        {"threshold": 0.4},
        {"batch": 3},
    ],
)
def test_other_settings_in_the_same_directory_are_refused_in_one_line(model, tokenizer, uncut, tmp_path, change):
    path = cut_copy(uncut, tmp_path / "cut", 1000)
    before = path.read_bytes()
    other = Collection(**{**{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}, **change})
    with pytest.raises(
        UsageError, match=rf"another {next(iter(change))}(, prompts)?: choose another directory"
    ) as refused:
        collect(model, tokenizer, other, path.parent)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


def test_another_checkpoint_in_the_same_directory_is_refused(make_model, tokenizer, uncut, tmp_path):
    path = cut_copy(uncut, tmp_path / "cut", 1000)
    with pytest.raises(UsageError, match="another checkpoint: choose another directory"):
        collect(make_model(seed=1), tokenizer, SMALL, path.parent)


def test_a_refused_request_does_not_spoil_its_directory(model, tokenizer, uncut, tmp_path):
    settings = {name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}
    with pytest.raises(UsageError, match="temperature must lie"):
        collect(model, tokenizer, Collection(**settings | {"temperature": -1.0}), tmp_path)
    assert lines(collect(model, tokenizer, SMALL, tmp_path)) == lines(uncut / "traces.jsonl")


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(UsageError, match="batch must be at least 1, not 0"):
        Collection(batch=0)


def test_a_file_of_prompts_goes_through_the_same_pipeline(model, tokenizer, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "one", "task": "a"}\n{"prompt": "two"}\n{"prompt": "three", "task": "a"}\n')
    settings = Collection(suite=str(path), n=500, max_new_tokens=2)
    runs = list(read_recorded(collect(model, tokenizer, settings, tmp_path / "out")))
    assert [(run.prompt.task, run.prompt.number, run.trace.header.prompt) for run in runs] == [
        ("a", 0, "one"),
        ("prompts", 0, "two"),
        ("a", 1, "three"),
    ]
    path.write_text('{"prompt": "another"}')
    with pytest.raises(UsageError, match="another prompts: choose another directory"):
        collect(model, tokenizer, settings, tmp_path / "out")


def test_two_processes_write_what_one_does(tmp_path, base_dir):
    checkpoint.save(checkpoint.from_base(base_dir, OWN), tmp_path / "model", base=str(base_dir))
    (tmp_path / "own.txt").write_text("\n".join(f"prompt {number}" for number in range(7)))
    common = ["-m", "analysis", "run", "--suite", str(tmp_path / "own.txt"), "--model", str(tmp_path / "model")]
    common += ["--max-new-tokens", "3", "--batch", "2", "--out"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, launcher in (("one", []), ("two", launch)):
        command = [sys.executable, *launcher, *common, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(tmp_path / name / file) for file in ("traces.jsonl", "summary.json")]
    assert lines(tmp_path / "two" / "traces.jsonl") == lines(tmp_path / "one" / "traces.jsonl")
    assert (tmp_path / "two" / "summary.json").read_text() == (tmp_path / "one" / "summary.json").read_text()
    assert (tmp_path / "two" / "settings.json").read_text() == (tmp_path / "one" / "settings.json").read_text()
    assert not (tmp_path / "two" / "parts").exists()


def test_passages_are_collected_too(make_model, tokenizer, tmp_path):
    settings = Collection(suite="all", n=1, max_new_tokens=2, batch=5)
    path = collect(make_model(max_position_embeddings=2048), tokenizer, settings, tmp_path)
    assert [run.prompt.task for run in read_recorded(path)] == [task.name for task in tasks_of("all")]
