"""Runs to look at without a model: ours, recorded with the shipped checkpoint, and files that a visitor opens.

Knows trace files and recorded runs; knows no torch and no page, and keeps nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from analysis.recorded import Recorded, read_recorded
from flexidepth.errors import TraceError
from flexidepth.trace import Trace

RECORDED_DIRECTORY = Path(__file__).parents[1] / "assets" / "recorded"
MOST_BYTES = 32 << 20  # of a visitor's file
MOST_RUNS = 200


@dataclass(frozen=True)
class Entry:
    """title: what to choose it by. source: where it is from, in words."""

    title: str
    source: str
    trace: Trace


@cache
def recorded_entries() -> tuple[Entry, ...]:
    """The runs that ship, in the order of their files; none when there are none."""
    return tuple(
        _entry(run, f"recorded run of {run.trace.header.model}")
        for path in sorted(RECORDED_DIRECTORY.glob("*.jsonl"))
        for run in read_recorded(path)
    )


def read_file(path: Path, name: str) -> list[Entry]:
    """The runs of a file that a visitor opened: one trace as the page saves it, or recorded runs as `analysis run`
    does. name: what the visitor calls it. Raises TraceError, with the reason, for anything else.
    """
    if path.stat().st_size > MOST_BYTES:
        raise TraceError(f"{name} is larger than {MOST_BYTES >> 20} MB: open a part of its lines")
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(next(file, ""))
            if isinstance(first, dict) and "trace" in first:
                file.seek(0)
                trace = Trace.from_lines(file)
                return [Entry(_shortened(trace.header.prompt), name, trace)]
        entries = [_entry(run, name) for run, _ in zip(read_recorded(path), range(MOST_RUNS + 1), strict=False)]
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise TraceError(
            f"{name} is no file of JSON lines: open a trace that this page or analysis run wrote"
        ) from None
    except TraceError as error:
        raise TraceError(f"{name} cannot be read: {str(error).replace(str(path), name)}") from None
    if len(entries) > MOST_RUNS:
        raise TraceError(f"{name} holds more than {MOST_RUNS} runs: open a part of its lines")
    return entries


def _entry(run: Recorded, source: str) -> Entry:
    return Entry(f"{run.prompt.task}: {_shortened(run.prompt.title)}", source, run.trace)


def _shortened(text: str, length: int = 60) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= length else plain[: length - 1] + "…"
