"""The six tasks of the FlexiDepth paper, free chat, and inputs for them. Knows no model and no page.

The instructions are the paper's. The passages are written for this project and name no real person; the number lists
are drawn from a seed. No passage is part of the training text; its exercises draw lists from seeds of their own, so
that an equal list there is possible and very unlikely.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["language", "math", "chat"]

PASSAGES_FILE = Path(__file__).parents[1] / "assets" / "passages.jsonl"
_OFFERED = 6  # passages among which the page lets choose


@dataclass(frozen=True, slots=True)
class Sample:
    """One input of a task: a short title to choose it by, and what the instruction is followed by."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    label: str
    kind: Kind
    instruction: str

    def prompt(self, sample: Sample) -> str:
        return f"{self.instruction}{sample.text}"


TASKS = (
    Task("chat", "Free chat", "chat", ""),
    Task("copy", "Copy", "language", "Please copy this paragraph: "),
    Task("summarize", "Summarize", "language", "Please summarize this paragraph into a single sentence: "),
    Task("continue", "Continue", "language", "Please continue writing this paragraph: "),
    Task("repeat", "Repeat", "math", "Please repeat the following list for 5 times: "),
    Task("add", "Add", "math", "Please calculate the sum of numbers in the following list: "),
    Task("multiply", "Multiply", "math", "Please calculate the product of numbers in the following list: "),
)

QUESTIONS = (
    Sample("Capital of France", "What is the capital of France?"),
    Sample("Why the sky is blue", "Explain in three sentences why the sky is blue."),
    Sample("Two rivers", "Name two rivers in Africa and say one thing about each."),
    Sample("A short letter", "Write a short letter that thanks a neighbour for watering the plants."),
    Sample("Days of the week", "List the days of the week, one on each line."),
)


def task_named(name: str) -> Task:
    """Raises KeyError for a name that is not a task's."""
    return {task.name: task for task in TASKS}[name]


@cache
def passages() -> tuple[Sample, ...]:
    """A hundred news-like paragraphs of 60 to 140 words, always in the same order."""
    lines = PASSAGES_FILE.read_text(encoding="utf-8").splitlines()
    return tuple(Sample(**json.loads(line)) for line in lines)


def number_lists(count: int = 6, seed: int = 0) -> tuple[Sample, ...]:
    """Lists of 5 to 10 integers from 10 to 99, as in the paper, short ones first; a seed gives the same ones again."""
    source = random.Random(seed)
    lists = [[source.randint(10, 99) for _ in range(source.randint(5, 10))] for _ in range(count)]
    return tuple(Sample(", ".join(map(str, numbers)), str(numbers)) for numbers in sorted(lists, key=len))


def samples(task: Task) -> tuple[Sample, ...]:
    """The inputs the page offers for a task."""
    if task.kind == "language":
        return passages()[:_OFFERED]
    return number_lists() if task.kind == "math" else QUESTIONS
