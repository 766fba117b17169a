"""ZeroGPU: a run in a fork gives the same tokens, its errors arrive, closing it ends it; elsewhere nothing changes.

The real `spaces` package needs the GPU of a Space, so a stand-in takes its place that does what it does to a function:
forks, pickles arguments and yields, and stops the fork when the generator is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flexidepth.errors import UsageError
from flexidepth.zero_gpu import lend, seconds

ROOT = Path(__file__).parents[1]
STAND_IN = """
import multiprocessing, pickle
fork = multiprocessing.get_context("fork")

def GPU(task, *, duration):
    def lent(*arguments):
        assert duration(*arguments) > 0
        sent, (ours, theirs), stopped = pickle.dumps(arguments), fork.Pipe(False), fork.Event()
        def child():
            for value in task(*pickle.loads(sent)):
                if stopped.is_set():
                    break
                theirs.send_bytes(pickle.dumps(value))
            theirs.send_bytes(b"")
        process = fork.Process(target=child, daemon=True)
        process.start()
        try:
            while value := ours.recv_bytes():
                yield pickle.loads(value)
        except GeneratorExit:
            stopped.set()
            raise
        finally:
            process.join(30)
            print("fork", process.exitcode, flush=True)
    return lent
"""
CHILD = """
import json, os, sys
from flexidepth.zero_gpu import lend, lent_start
spaces = lend(dict(os.environ))
import torch, flexidepth
from flexidepth import generation
from flexidepth.engines import make_ready
torch.set_num_threads(2)
model, tokenizer = flexidepth.load(sys.argv[1], "cpu", "float32")
torch.randn(600, 600) @ torch.randn(600, 600)  # work that leaves threads behind
make_ready("reference", model)
def broken(*_, **__):
    raise KeyError("secret words")
start = lent_start(spaces, {model.name_or_path: (model, tokenizer)}, generation.start)
settings = {"max_new_tokens": 12, "engine": "reference"}
header, steps = start(model, tokenizer, "Hi", **settings)
lent = [step.token_id for step in steps]
plain = [step.token_id for step in generation.start(model, tokenizer, "Hi", **settings)[1]]
print(json.dumps({"lent": lent, "plain": plain, "model": header.model, "threads": torch.get_num_threads()}))
for function, prompt in ((generation.start, " "), (broken, "secret words")):
    try:
        lent_start(spaces, {model.name_or_path: (model, tokenizer)}, function)(model, tokenizer, prompt, **settings)
    except Exception as error:
        print(type(error).__name__, error)
steps = start(model, tokenizer, "Hi", max_new_tokens=200)[1]
next(steps)
steps.close()
print("closed")
"""


def test_a_run_in_a_fork_is_the_same_run(tmp_path: Path, tiny: str) -> None:
    (tmp_path / "spaces.py").write_text(STAND_IN)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tiny],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "SPACES_ZERO_GPU": "true", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    _, told, *rest = done.stdout.splitlines()
    run = json.loads(told)
    assert run["lent"] == run["plain"]
    assert len(run["lent"]) == 12
    assert run["model"] == tiny
    assert run["threads"] == 2  # the fork's one thread is its own affair
    errors = [line for line in rest if not line.startswith("fork")]
    assert errors[0].startswith("UsageError the prompt is empty")
    assert errors[1:] == ["RuntimeError KeyError", "closed"]
    assert "secret" not in done.stdout + done.stderr
    assert {line for line in rest if line.startswith("fork")} == {"fork 0"}


@pytest.mark.parametrize("environment", [{}, {"SPACES_ZERO_GPU": ""}, {"SPACES_ZERO_GPU": "false"}])
def test_elsewhere_the_package_is_not_even_looked_for(environment: dict[str, str]) -> None:
    assert lend(environment) is None


def test_a_zero_gpu_space_without_the_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(UsageError, match=r"add it to requirements\.txt"):
        lend({"SPACES_ZERO_GPU": "true"})


def test_longer_answers_ask_for_more_time() -> None:
    assert seconds("model", "prompt", {"max_new_tokens": 64}) < seconds("model", "prompt", {"max_new_tokens": 512})
    assert seconds("model", "prompt", {"max_new_tokens": 64}) < 60  # the usual limit of a call
