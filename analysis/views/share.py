"""Links that bring a run back: the page's settings as a query string, and a query string as settings.

A link holds what the visitor typed and chose, nothing else; it is made in the browser and told to nobody. Knows the
names and ranges of settings; knows no model and no component.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.tasks import TASKS

LONGEST_PROMPT = 6000  # characters that a link carries: what servers and browsers still pass on


@dataclass(frozen=True)
class Range:
    """Numbers that a setting takes; whole: no fractions."""

    low: float
    high: float
    whole: bool = False


RANGES = {
    "tokens": Range(1, 1024, whole=True),
    "temperature": Range(0, 2),
    "top_p": Range(0.05, 1),
    "seed": Range(0, 2**53, whole=True),
    "threshold": Range(0, 1),
}
NAMES = ("task", "prompt", *RANGES, "chat", "model")


def restored(query: Mapping[str, str], models: Mapping[str, str | None]) -> tuple[dict[str, Any], list[str]]:
    """The settings that a query string names, and one line for each value that is none. models: by name, why each
    cannot run here, None when it can.
    """
    values: dict[str, Any] = {}
    wrong: list[str] = []
    if "task" in query:
        if query["task"] in {task.name for task in TASKS}:
            values["task"] = query["task"]
        else:
            wrong.append("its task is none of this page's")
    if "prompt" in query:
        if len(query["prompt"]) <= LONGEST_PROMPT:
            values["prompt"] = query["prompt"]
        else:
            wrong.append(f"its prompt is longer than {LONGEST_PROMPT} characters")
    for name, allowed in RANGES.items():
        if name in query:
            number = _number(query[name], allowed)
            if number is None:
                wrong.append(f"its {name} is no number from {allowed.low:g} to {allowed.high:g}")
            else:
                values[name] = number
    if "chat" in query:
        if query["chat"] in ("0", "1"):
            values["chat"] = query["chat"] == "1"
        else:
            wrong.append("its chat is neither 0 nor 1")
    if "model" in query:
        if query["model"] not in models:
            wrong.append("its model is none of this page's")
        elif reason := models[query["model"]]:
            wrong.append(f"its model cannot run here: it {reason}")
        else:
            values["model"] = query["model"]
    return values, wrong


def _number(text: str, allowed: Range) -> float | int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number) or not allowed.low <= number <= allowed.high:
        return None
    if allowed.whole:
        return int(number) if number == int(number) else None
    return number


def link_script() -> str:
    """JavaScript that takes the settings in the order of NAMES, copies their link, and returns it."""
    return (
        f"(...values) => {{ const names = {json.dumps(NAMES)};"
        f" if (String(values[1]).length > {LONGEST_PROMPT}) return 'The prompt is too long for a link:"
        " save the trace instead.';"
        " const url = new URL(location.origin + location.pathname);"
        " names.forEach((name, place) => { const value = values[place];"
        " url.searchParams.set(name, typeof value === 'boolean' ? (value ? '1' : '0') : String(value)); });"
        " navigator.clipboard?.writeText(url.href).catch(() => {}); return url.href; }"
    )
