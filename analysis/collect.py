"""Prompts -> recorded runs on disk, batch after batch; a killed collection goes on where it stopped.

Started by accelerate, each process answers every so-many-th batch, and the first one joins the parts. Knows the model;
counts nothing and draws nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from analysis.prompts import check_suite, prompts
from analysis.recorded import TRACES_FILE, Prompt, Recorded, append, whole_lines
from flexidepth.batch import generate_batch
from flexidepth.checkpoint import trained_fingerprint
from flexidepth.errors import UsageError

_SETTINGS_FILE = "settings.json"
_PARTS = "parts"  # of several processes, while they work
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Collection:
    """What to collect, and how: the same values give the same runs. suite, n and passages: see
    `prompts`.
    """

    suite: str = "all"
    n: int = 100
    passages: str | None = None
    routes: str = "learned"
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    threshold: float | None = None
    batch: int = 16

    def __post_init__(self) -> None:
        check_suite(self.suite, self.n, self.passages)
        if self.batch < 1:
            raise UsageError(f"batch must be at least 1, not {self.batch}")


def collect(
    model: Any, tokenizer: Any, collection: Collection, directory: Path, report: Report = lambda *_: None
) -> Path:
    """Writes DIR/traces.jsonl, one run a line in the order of `prompts`. report is told (runs done, runs) of this
    process.

    A directory that holds some of the runs is gone on with; raises UsageError when it was begun with other settings or
    another checkpoint. Batches are cut as they would have been, so that neither stopping nor the number of processes
    changes a token.
    """
    path = directory / TRACES_FILE
    asked = prompts(collection.suite, collection.n, collection.passages)
    batches = [asked[first : first + collection.batch] for first in range(0, len(asked), collection.batch)]
    settings = asdict(collection) | {
        "prompts": hashlib.sha256(repr([prompt.text for prompt in asked]).encode()).hexdigest()[:16],
        "model": str(model.name_or_path),
        "checkpoint": trained_fingerprint(model),
    }
    state = processes()
    directory.mkdir(parents=True, exist_ok=True)
    _refuse_others(directory / _SETTINGS_FILE, settings)
    if state.num_processes == 1 or whole_lines(path) == len(asked):
        _collect(model, tokenizer, collection, batches, directory, settings, report)
        return path
    parts = [directory / _PARTS / f"{number}-of-{state.num_processes}" for number in range(state.num_processes)]
    own = slice(state.process_index, None, state.num_processes)
    _collect(model, tokenizer, collection, batches[own], parts[state.process_index], settings, report)
    state.wait_for_everyone()
    if state.is_main_process:
        _join(parts, batches, path)
        _note_settings(directory, settings)
        shutil.rmtree(directory / _PARTS)
    state.wait_for_everyone()
    return path


def processes() -> PartialState:
    """This process among those that accelerate or torchrun started, if any did; on a machine without a GPU too."""
    return PartialState(cpu=not torch.cuda.is_available())


def _collect(
    model: Any,
    tokenizer: Any,
    collection: Collection,
    batches: Sequence[Sequence[Prompt]],
    directory: Path,
    settings: dict[str, Any],
    report: Report,
) -> None:
    """Answers what is missing of these batches, into a directory of this process alone."""
    directory.mkdir(parents=True, exist_ok=True)
    _refuse_others(directory / _SETTINGS_FILE, settings)
    path = directory / TRACES_FILE
    done, end, of_all = whole_lines(path), 0, sum(map(len, batches))
    for batch in batches:
        end += len(batch)
        report(min(done, end), of_all)
        if done >= end:
            continue
        runs = _answered(model, tokenizer, batch, collection)
        _note_settings(directory, settings)
        append(path, runs[done - end :])
        done = end
        report(done, of_all)


def _join(parts: Sequence[Path], batches: Sequence[Sequence[Prompt]], path: Path) -> None:
    """The parts' lines in the order of the batches, which were dealt out in turn."""
    joined = path.with_suffix(".part")
    with joined.open("wb") as whole, ExitStack() as stack:
        files = [stack.enter_context((part / TRACES_FILE).open("rb")) for part in parts[: len(batches)]]
        for number, batch in enumerate(batches):
            file = files[number % len(parts)]
            whole.writelines(file.readline() for _ in batch)
    joined.replace(path)


def _answered(model: Any, tokenizer: Any, batch: Sequence[Prompt], collection: Collection) -> list[Recorded]:
    traces = generate_batch(
        model,
        tokenizer,
        [prompt.text for prompt in batch],
        max_new_tokens=collection.max_new_tokens,
        temperature=collection.temperature,
        seed=collection.seed,
        threshold=collection.threshold,
        routes=collection.routes,
    )
    return [Recorded(prompt, trace) for prompt, trace in zip(batch, traces, strict=True)]


def _refuse_others(path: Path, settings: dict[str, Any]) -> None:
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name, value in settings.items() if found.get(name) != value]
    if other:
        raise UsageError(f"{path.parent} holds runs with another {', '.join(other)}: choose another directory")


def _note_settings(directory: Path, settings: dict[str, Any]) -> None:
    if not (directory / _SETTINGS_FILE).is_file():
        _write_whole(directory / _SETTINGS_FILE, json.dumps(settings, indent=1) + "\n")


def _write_whole(path: Path, text: str) -> None:
    """A kill leaves the whole file, or none."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
