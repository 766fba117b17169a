"""A checkpoint's final numbers, from shipped inputs alone: scores with controls, answers to the six tasks, patterns.

One call makes results.json; tables and charts of it are made elsewhere (results_tables.py). Knows the model.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.answers import Judgement, judge
from analysis.collect import Collection, collect
from analysis.recorded import read_recorded
from analysis.results_tables import RESULTS_FILE
from analysis.summary import summarize_runs
from analysis.tasks import PASSAGES_FILE
from flexidepth.checkpoint import trained_fingerprint
from flexidepth.scoring import score

CONVERSATIONS_FILE = PASSAGES_FILE.with_name("conversations.jsonl")
_SOURCES = {"passages": PASSAGES_FILE, "conversations": CONVERSATIONS_FILE}
_ROUTES = ("learned", "random", "static-equal")
_MAX_NEW_TOKENS = 256  # a copy of the longest passage, or five repetitions of the longest list, fits
Report = Callable[[str, int, int], None]


def make_results(model: Any, tokenizer: Any, directory: Path, *, n: int, report: Report = lambda *_: None) -> Path:
    """Scores the held-out texts and answers n inputs of each task, routed and with every layer; writes results.json.

    report is told what is being done, and (done, of all). Runs stay in the directory; if they are there already, from
    the same checkpoint and settings, they are not made again.
    """
    scores = {
        name: {
            routes: asdict(
                score(model, tokenizer, path, routes=routes, report=_told(report, f"{name}, {routes} routes"))
            )
            | {"source": f"{path.parent.name}/{path.name}"}
            for routes in _ROUTES
        }
        for name, path in _SOURCES.items()
    }
    runs = {
        routes: collect(
            model,
            tokenizer,
            Collection(n=n, routes=routes, max_new_tokens=_MAX_NEW_TOKENS),
            directory / routes,
            _told(report, f"six tasks, {routes} routes"),
        )
        for routes in ("learned", "all")
    }
    found = {
        "checkpoint": trained_fingerprint(model),
        "threshold": model.config.threshold,
        "num_layers": model.config.num_hidden_layers,
        "routed_layers": list(model.config.routed_layers),
        "n": n,
        "max_new_tokens": _MAX_NEW_TOKENS,
        "inputs": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _SOURCES.items()},
        "versions": {package: version(package) for package in ("torch", "transformers")},
        "scores": scores,
        "answers": _answers(runs["learned"], runs["all"]),
        "patterns": summarize_runs(read_recorded(runs["learned"])),
    }
    path = directory / RESULTS_FILE
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def _told(report: Report, what: str) -> Callable[[int, int], None]:
    return lambda done, of_all: report(what, done, of_all)


def _answers(routed: Path, base: Path) -> dict[str, dict[str, Any]]:
    """By task: how the routed answers fare, and the base model's own beside them."""
    judged: defaultdict[str, list[tuple[Judgement, Judgement]]] = defaultdict(list)
    for ours, theirs in zip(read_recorded(routed), read_recorded(base), strict=True):
        judged[ours.prompt.task].append((judge(ours, theirs), judge(theirs, theirs)))
    return {task: _shares(pairs) for task, pairs in judged.items()}


def _shares(pairs: list[tuple[Judgement, Judgement]]) -> dict[str, Any]:
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    shares: dict[str, Any] = {
        "n": len(pairs),
        "same_as_base": fmean(one.same_as_base for one in ours),
        "overlap_with_base": fmean(one.overlap for one in ours),
        "shared_with_base": fmean(one.shared for one in ours),
    }
    for prefix, group in (("", ours), ("base_", theirs)):
        shares[prefix + "right"] = None if group[0].right is None else fmean(bool(one.right) for one in group)
        shares[prefix + "runaway"] = fmean(one.runaway for one in group)
        shares[prefix + "tokens"] = fmean(one.tokens for one in group)
    return shares
