"""Recorded runs on disk: one JSON line a run, with the task and the input that it answers.

Values and files only: knows no torch, no model and no page. Written by collect.py, read by whatever counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexidepth.errors import TraceError, UsageError
from flexidepth.trace import TokenStep, Trace, TraceHeader, finite

TRACES_FILE = "traces.jsonl"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: the task, the input's number among the task's (the same input has it in every task), its title,
    the input itself and the whole prompt.
    """

    task: str
    number: int
    title: str
    input: str
    text: str


@dataclass(frozen=True, slots=True)
class Recorded:
    prompt: Prompt
    trace: Trace

    def line(self) -> str:
        asked = {"task": self.prompt.task, "number": self.prompt.number, "title": self.prompt.title}
        steps = [step.to_dict() for step in self.trace.steps]
        run = asked | {"input": self.prompt.input, "header": self.trace.header.to_dict(), "steps": steps}
        return json.dumps(finite(run), separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recorded:
        header = TraceHeader.from_dict(data["header"])
        steps = tuple(TokenStep.from_dict(step) for step in data["steps"])
        prompt = Prompt(data["task"], data["number"], data["title"], data["input"], header.prompt)
        return cls(prompt, Trace(header, steps))


def read_recorded(path: Path) -> Iterator[Recorded]:
    """Runs of a file in order. Raises UsageError without a file, TraceError with the line that is no run."""
    try:
        file = path.open("rb")  # a line that is no UTF-8 is named like any other
    except OSError:
        raise UsageError(f"no recorded runs at {path}: make them with python -m analysis run --out DIR") from None
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield Recorded.from_dict(json.loads(line))
            except TraceError as error:
                raise TraceError(f"{path} line {number}: {error}") from None
            except (AttributeError, TypeError, ValueError, KeyError) as error:
                raise TraceError(f"{path} line {number} is no recorded run ({error}): record it again") from None


def append(path: Path, runs: Iterable[Recorded]) -> None:
    """Adds runs in one write, so that a run cut off leaves at most one broken line behind."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(run.line() + "\n" for run in runs))


def whole_lines(path: Path) -> int:
    """Counts the lines of a file and cuts off what follows the last of them: the rest of a write that was killed."""
    if not path.is_file():
        return 0
    with path.open("r+b") as file:
        lines, end = 0, 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            lines += 1
            end += len(line)
        file.truncate(end)
    return lines
