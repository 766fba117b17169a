"""Prompts -> recorded runs on disk, batch after batch; a killed collection goes on where it stopped.

Knows the model and the tasks; counts nothing and draws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.recorded import TRACES_FILE, Prompt, Recorded, append, whole_lines
from analysis.tasks import TASKS, Task, number_lists, passages
from flexidepth.batch import generate_batch
from flexidepth.checkpoint import trained_fingerprint
from flexidepth.errors import UsageError

SUITES = ("language", "math", "all")
_SETTINGS_FILE = "settings.json"
_LIST_SEED = 2503  # of the number lists; the page's own examples have another
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Collection:
    """What to collect, and how: the same values give the same runs."""

    suite: str = "all"
    n: int = 100
    routes: str = "learned"
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    threshold: float | None = None
    batch: int = 16

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise UsageError(f"the suite must be one of {', '.join(SUITES)}, not {self.suite!r}")
        most = len(passages())
        if not 1 <= self.n <= most:
            raise UsageError(f"n must lie between 1 and {most}, the passages there are, not {self.n}")
        if self.batch < 1:
            raise UsageError(f"batch must be at least 1, not {self.batch}")


def prompts(suite: str, n: int) -> list[Prompt]:
    """n inputs of every task of a suite; number i is the same passage, or the same list, in each task of its kind."""
    inputs = {"language": passages()[:n], "math": number_lists(n, _LIST_SEED)}
    return [
        Prompt(task.name, number, sample.title, sample.text, task.prompt(sample))
        for task in tasks_of(suite)
        for number, sample in enumerate(inputs[task.kind])
    ]


def tasks_of(suite: str) -> list[Task]:
    return [task for task in TASKS if task.kind != "chat" and suite in ("all", task.kind)]


def collect(
    model: Any, tokenizer: Any, collection: Collection, directory: Path, report: Report = lambda *_: None
) -> Path:
    """Writes DIR/traces.jsonl, one run a line in the order of `prompts`. report is told (runs done, runs).

    A directory that holds some of the runs is gone on with; raises UsageError when it was begun with other settings or
    another checkpoint. Batches are cut as they would have been, so that stopping changes no token.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / TRACES_FILE
    asked = prompts(collection.suite, collection.n)
    settings = asdict(collection) | {"model": str(model.name_or_path), "checkpoint": trained_fingerprint(model)}
    _refuse_others(directory / _SETTINGS_FILE, settings)
    done = whole_lines(path)
    for first in range(0, len(asked), collection.batch):
        batch = asked[first : first + collection.batch]
        report(min(done, first + len(batch)), len(asked))
        missing = first + len(batch) - done
        if missing <= 0:
            continue
        runs = _answered(model, tokenizer, batch, collection)
        if not (directory / _SETTINGS_FILE).is_file():
            _write_whole(directory / _SETTINGS_FILE, json.dumps(settings, indent=1) + "\n")
        append(path, runs[-missing:])
        done = first + len(batch)
        report(done, len(asked))
    return path


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


def _write_whole(path: Path, text: str) -> None:
    """A kill leaves the whole file, or none."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
