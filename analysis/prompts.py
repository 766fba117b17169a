"""What a collection asks: the six tasks on shipped inputs or on a dataset's, or a file of prompts. Knows no model."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

from analysis.recorded import Prompt
from analysis.tasks import TASKS, Sample, Task, number_lists, passages
from flexidepth.errors import UsageError

SUITES = ("language", "math", "all")
OWN_TASK = "prompts"  # of a file that names none
_LIST_SEED = 2503  # of the number lists; the page's own examples have another
_TITLE = 40  # characters


def check_suite(suite: str, n: int, dataset: str | None = None) -> None:
    """Raises UsageError for what `prompts` cannot make, before anything is loaded."""
    own = suite not in SUITES
    if own and not Path(suite).is_file():
        raise UsageError(f"the suite must be one of {', '.join(SUITES)}, or a file of prompts, not {suite!r}")
    if own and dataset is not None:
        raise UsageError("passages of a dataset need the suite language or all: a file has its own prompts")
    most = len(passages())
    if n < 1 or (n > most and not own and dataset is None):
        raise UsageError(f"n must lie between 1 and {most}, the passages there are, not {n}")


def prompts(suite: str, n: int, dataset: str | None = None) -> list[Prompt]:
    """n inputs of every task of a suite; number i is the same passage, or the same list, in each task of its kind.

    dataset: a Hub id or directory whose test split gives the passages in place of ours; the paper's are those of
    EdinburghNLP/xsum. A suite that is a file gives
    the first n prompts of each task that it names.
    """
    if suite not in SUITES:
        return [prompt for prompt in read_prompts(Path(suite)) if prompt.number < n]
    tasks = tasks_of(suite)
    inputs = {"math": number_lists(n, _LIST_SEED)}
    if any(task.kind == "language" for task in tasks):
        inputs["language"] = passages()[:n] if dataset is None else dataset_passages(dataset, n)
    return [
        Prompt(task.name, number, sample.title, sample.text, task.prompt(sample))
        for task in tasks
        for number, sample in enumerate(inputs[task.kind])
    ]


def tasks_of(suite: str) -> list[Task]:
    return [task for task in TASKS if task.kind != "chat" and suite in ("all", task.kind)]


def dataset_passages(name: str, n: int) -> tuple[Sample, ...]:
    """The first n documents of a dataset's test split, line breaks made blanks. Raises UsageError without them."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(f"the passages {name!r} are read by the package datasets: run pip install datasets") from None
    try:
        records = list(islice(load_dataset(name, split="test", streaming=True), n))
    except (OSError, ValueError) as error:  # what datasets and huggingface_hub raise for names, splits and networks
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"the dataset {name!r} cannot be read ({reason}): check its name and the network") from None
    texts = [" ".join(text.split()) for record in records if (text := record.get("document") or record.get("text"))]
    if len(texts) < n:
        raise UsageError(f"the test split of {name!r} gives {len(texts)} passages of {n}: ask for fewer with --n")
    return tuple(Sample(text[:_TITLE], text) for text in texts)


def read_prompts(path: Path) -> list[Prompt]:
    """A file of prompts: one a line, or JSON lines {"prompt": ..., "task": ...} whose task may be left out. Numbers
    count the prompts of each task. Raises UsageError, with the line's number, on what is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"no prompts at {path}: give a UTF-8 text file, or JSON lines") from None
    found: list[Prompt] = []
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        text, task = _prompt_of(line, f"{path} line {number}")
        found.append(Prompt(task, counts[task], " ".join(text.split())[:_TITLE], text, text))
        counts[task] += 1
    if not found:
        raise UsageError(f"{path} holds no prompt: write one a line")
    return found


def _prompt_of(line: str, place: str) -> tuple[str, str]:
    """Prompt and task of a line."""
    if not line.lstrip().startswith("{"):
        return line.strip(), OWN_TASK
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} starts like JSON and is none ({error.msg}): correct it") from None
    text, task = record.get("prompt"), record.get("task", OWN_TASK)
    if not isinstance(text, str) or not text.strip() or not isinstance(task, str) or not task.strip():
        raise UsageError(f'{place} needs {{"prompt": "..."}} and may have {{"task": "..."}}: correct it')
    return text, task
