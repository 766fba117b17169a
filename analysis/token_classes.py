"""What kind of token is it? A recorded run in, for each generated token the classes that hold of it out.

Classes look at the text alone, never at layers or gates, and may overlap. Knows no torch, no model and no figure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from analysis.recorded import Recorded

CLASSES = (
    "digits left of =",
    "digits right of =",
    "first of a sentence",
    "punctuation",
    "copied span",
    "name",
    "other",
)
_COPIED_WORDS = 4  # as many words in a row that the prompt has too make a copied span


def classes(run: Recorded) -> list[set[str]]:
    """For each generated token the names out of CLASSES that hold of it; "other" where none does. The token that only
    ends the turn has no text, and no class at all.
    """
    texts = [step.text for step in run.trace.generated]
    answer = "".join(texts)
    spans = {
        "first of a sentence": _sentence_starts(answer),
        "copied span": _copied(answer, run.prompt.input),
        "name": _names(answer),
    }
    found: list[set[str]] = []
    begin = 0
    for text in texts:
        end = begin + len(text)
        core = (end - len(text.lstrip()), begin + len(text.rstrip()))
        found.append(_of_token(answer, text.strip(), core, spans) if text else set())
        begin = end
    return found


def _of_token(answer: str, text: str, core: tuple[int, int], spans: dict[str, list[tuple[int, int]]]) -> set[str]:
    held = {name for name, places in spans.items() if text and any(a < core[1] and core[0] < b for a, b in places)}
    if text.isdigit() and (side := _side(answer, core)):
        held.add(f"digits {side} of =")
    if text and not any(character.isalnum() for character in text):
        held.add("punctuation")
    return held or {"other"}


def _side(answer: str, core: tuple[int, int]) -> str | None:
    """On which side of its line's equals signs a token stands; between two it restates a result, which is the right
    side.
    """
    line_begin = answer.rfind("\n", 0, core[0]) + 1
    line_end = answer.find("\n", core[1])
    if "=" in answer[line_begin : core[0]]:
        return "right"
    return "left" if "=" in answer[core[1] : line_end if line_end >= 0 else None] else None


def _sentence_starts(answer: str) -> list[tuple[int, int]]:
    """First characters of sentences: at the beginning, after a full stop, question or exclamation mark, where a
    quotation begins, in a new line.
    """
    before = r"""\A\W*|[.!?]["')]?\s+["'(]?|[,:]\s+["'](?=[A-Z])|\n\W*"""
    return [(m.end() - 1, m.end()) for m in re.finditer(rf"(?:{before})[A-Za-z]", answer)]


def _names(answer: str) -> list[tuple[int, int]]:
    """Capitalised words that do not begin a sentence, the pronoun I aside."""
    starts = {begin for begin, _ in _sentence_starts(answer)}
    return [m.span() for m in re.finditer(r"\b[A-Z][a-z]+\b", answer) if m.start() not in starts]


def _copied(answer: str, source: str) -> list[tuple[int, int]]:
    """Spans of the answer whose words stand in the same order in the source, at least four in a row."""
    places = [m.span() for m in re.finditer(r"\w+", answer)]
    words = [answer[a:b].lower() for a, b in places]
    known = _runs(re.findall(r"\w+", source.lower()))
    starts = [
        number
        for number in range(len(words) - _COPIED_WORDS + 1)
        if tuple(words[number : number + _COPIED_WORDS]) in known
    ]
    return [(places[number][0], places[number + _COPIED_WORDS - 1][1]) for number in starts]


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(words[number : number + _COPIED_WORDS]) for number in range(len(words) - _COPIED_WORDS + 1)}
