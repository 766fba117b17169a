"""Is an answer right, is it the base model's, did it end? Task, input and text in, judgement out.

Knows no torch, no model and no figure.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from analysis.recorded import Prompt, Recorded

REPEATS = 5  # what the paper's repeat prompt asks for


@dataclass(frozen=True, slots=True)
class Judgement:
    """right: None where a task has no right answer. overlap: unigram F1 with the base model's answer, 0..1.
    shared: leading tokens that are the same as the base model's, as a share of the longer answer.
    """

    right: bool | None
    same_as_base: bool
    overlap: float
    shared: float
    runaway: bool
    tokens: int


def judge(run: Recorded, base: Recorded) -> Judgement:
    """A routed run against the base model's run of the same prompt."""
    return Judgement(
        right=is_right(run.prompt, run.trace.text),
        same_as_base=run.trace.text == base.trace.text,
        overlap=word_overlap(run.trace.text, base.trace.text),
        shared=_shared(run, base),
        runaway=run.trace.generated[-1].stop == "max_new_tokens",
        tokens=len(run.trace.generated),
    )


def is_right(prompt: Prompt, answer: str) -> bool | None:
    """Copy: the passage, white space aside. Repeat: the list five times, brackets aside. Add and multiply: the last
    number of the answer is the result. Other tasks: None.
    """
    if prompt.task == "copy":
        return answer.split() == prompt.input.split()
    if prompt.task == "repeat":
        numbers = ", ".join(map(str, json.loads(prompt.input)))
        in_one_row = ", ".join([numbers] * REPEATS)
        return _times(numbers, answer) == REPEATS or _times(in_one_row, answer) == 1
    if prompt.task in ("add", "multiply"):
        numbers = json.loads(prompt.input)
        return _last_number(answer) == (sum(numbers) if prompt.task == "add" else math.prod(numbers))
    return None


def _times(numbers: str, text: str) -> int:
    """How often a list stands in a text, not as part of a longer one."""
    return len(re.findall(rf"(?<!\d)(?<!\d, ){numbers}(?!\d|, \d)", text))


def _last_number(text: str) -> Decimal | None:
    """With or without commas between thousands; a fraction belongs to its number."""
    found = re.findall(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?", text)
    return Decimal(found[-1].replace(",", "")) if found else None


def word_overlap(first: str, second: str) -> float:
    """F1 of the words (letters and digits, in lower case) that two texts share, repetitions counted; ROUGE-1."""
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in (first, second)]
    common = (counts[0] & counts[1]).total()
    total = counts[0].total() + counts[1].total()
    return 2 * common / total if total else 1.0


def _shared(run: Recorded, base: Recorded) -> float:
    ours = [step.token_id for step in run.trace.generated]
    theirs = [step.token_id for step in base.trace.generated]
    same = next(
        (place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    return same / max(len(ours), len(theirs))
