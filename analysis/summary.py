"""Recorded runs -> what the paper's table holds: layers used by task, with intervals, tests, classes and usage.

Knows no torch, no model and no figure.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from analysis.intervals import holm, paired_test, ratio_interval
from analysis.recorded import Recorded
from analysis.token_classes import CLASSES, classes
from flexidepth.trace import per_layer_usage

# Shallow to deep, as the paper found it for Llama-3-8B-Instruct; a model need not agree.
PAPER_ORDER = (("copy", "summarize", "continue"), ("repeat", "add", "multiply"))


@dataclass(frozen=True)
class Depths:
    """Layers used by the generated tokens of one run."""

    task: str
    number: int
    layers: tuple[int, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.layers)


def summarize_runs(runs: Iterable[Recorded]) -> dict[str, Any]:
    """tasks: by name n, tokens, mean_layers with ci95 (prompts drawn anew), var_layers over tokens, var_over_prompts
    of the runs' means, per_layer_usage. pairs: neighbours in the paper's order, second minus first on the same inputs.
    token_classes: runs that have any, tokens, mean_layers and ci95 of each class over all tasks.
    """
    depths: defaultdict[str, list[Depths]] = defaultdict(list)
    usage: defaultdict[str, list[tuple[int, list[float | None]]]] = defaultdict(list)
    by_class: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # a run's layers and tokens
    for run in runs:
        steps = run.trace.generated
        task = run.prompt.task
        depths[task].append(Depths(task, run.prompt.number, tuple(step.layers_used for step in steps)))
        usage[task].append((len(steps), per_layer_usage(run.trace.header, steps)))
        for name, layers in _class_layers(run).items():
            by_class[name].append((sum(layers), len(layers)))
    return {
        "tasks": {task: _task(depths[task], usage[task]) for task in depths},
        "pairs": _pairs(depths),
        "token_classes": {name: _class(by_class[name]) for name in CLASSES if by_class[name]},
    }


def _task(runs: list[Depths], usage: list[tuple[int, list[float | None]]]) -> dict[str, Any]:
    every = [layers for run in runs for layers in run.layers]
    interval = ratio_interval([sum(run.layers) for run in runs], [len(run.layers) for run in runs])
    return {
        "n": len(runs),
        "tokens": len(every),
        "mean_layers": interval.mean,
        "ci95": [interval.low, interval.high],
        "var_layers": statistics.pvariance(every),
        "var_over_prompts": statistics.variance([run.mean for run in runs]) if len(runs) > 1 else 0.0,
        "per_layer_usage": [
            sum(tokens * (shares[layer] or 0.0) for tokens, shares in usage) / len(every)
            for layer in range(len(usage[0][1]))
        ],
    }


def _pairs(depths: dict[str, list[Depths]]) -> list[dict[str, Any]]:
    named = [
        (first, second)
        for order in PAPER_ORDER
        for first, second in pairwise(order)
        if {run.number for run in depths.get(first, ())} & {run.number for run in depths.get(second, ())}
    ]
    tests = []
    for first, second in named:
        means = [{run.number: run.mean for run in depths[task]} for task in (first, second)]
        both = sorted(means[0].keys() & means[1].keys())
        tests.append(paired_test([means[0][number] for number in both], [means[1][number] for number in both]))
    corrected = holm([test.p for test in tests])
    return [
        {
            "first": first,
            "second": second,
            "difference": test.difference.mean,
            "ci95": [test.difference.low, test.difference.high],
            "p": test.p,
            "p_holm": p,
        }
        for (first, second), test, p in zip(named, tests, corrected, strict=True)
    ]


def _class_layers(run: Recorded) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for step, names in zip(run.trace.generated, classes(run), strict=True):
        for name in names:
            found[name].append(step.layers_used)
    return found


def _class(runs: list[tuple[int, int]]) -> dict[str, Any]:
    interval = ratio_interval([layers for layers, _ in runs], [tokens for _, tokens in runs])
    return {
        "runs": len(runs),
        "tokens": sum(tokens for _, tokens in runs),
        "mean_layers": interval.mean,
        "ci95": [interval.low, interval.high],
    }
