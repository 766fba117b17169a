"""Trained runs -> points of the curve: each checkpoint scored on the same text. Knows the model; draws nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.curve import Curve, Point
from flexidepth import checkpoint
from flexidepth.errors import UsageError
from flexidepth.scoring import Score, score

_RECORD_FILE = "training.json"
Report = Callable[[str, int, int], None]


def make_curve(runs: Sequence[Path], seeds: Sequence[Path], text: Path, *, report: Report = lambda *_: None) -> Curve:
    """runs: checkpoints that differ in their penalty. seeds: of the final recipe. report is told which run is scored,
    and (passes done, of all). Raises UsageError for a directory without a training record.
    """
    for directory in (*runs, *seeds):
        _record(directory)  # before the first minute is spent
    scores = {directory: _scored(directory, text, report) for directory in dict.fromkeys((*runs, *seeds))}
    first = next(iter(scores.values()))
    groups = [tuple(_point(directory, scores[directory]) for directory in group) for group in (runs, seeds)]
    return Curve(f"{text.parent.name}/{text.name}", first.tokens, first.num_layers, *groups)


def _scored(directory: Path, text: Path, report: Report) -> Score:
    model, tokenizer = checkpoint.load(str(directory))
    return score(model, tokenizer, text, report=lambda done, of_all: report(str(directory), done, of_all))


def _point(directory: Path, scored: Score) -> Point:
    record = _record(directory)
    settings, last = record["settings"], record["log"][-1]
    return Point(
        penalty=last["penalty"],
        target_depth=settings["target_depth"],
        steps=settings["steps"],
        seed=settings["seed"],
        mean_layers_used=scored.mean_layers_used,
        kl_to_base=scored.kl_to_base,
        nll=scored.nll,
        base_nll=scored.base_nll,
    )


def _record(directory: Path) -> dict:
    try:
        return json.loads((directory / _RECORD_FILE).read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"no {_RECORD_FILE} in {directory}: give a directory that train has finished") from None
