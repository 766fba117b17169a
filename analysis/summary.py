"""Recorded runs -> what the paper's table holds: layers used by task, with intervals, tests, classes and usage.

Knows no torch, no model and no figure.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from analysis.intervals import Interval, holm, paired_test, ratio_interval, ratio_intervals
from analysis.recorded import Recorded
from analysis.token_classes import CLASSES, classes
from flexidepth.trace import per_layer_usage

# Shallow to deep, as the paper found it for Llama-3-8B-Instruct; a model need not agree.
PAPER_ORDER = (("copy", "summarize", "continue"), ("repeat", "add", "multiply"))
_STRETCHES = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)  # first tokens, from 0


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
    of the runs' means, per_layer_usage with its ci95 by layer, depth_shares by layers used, and `along` the answer.
    pairs: neighbours in the paper's order, second minus first on the same inputs. token_classes: runs that have any,
    tokens, mean_layers and ci95 of each class over all tasks.
    """
    depths: defaultdict[str, list[Depths]] = defaultdict(list)
    usage: defaultdict[str, list[list[float]]] = defaultdict(list)
    by_class: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)  # a run's layers and tokens
    for run in runs:
        steps = run.trace.generated
        task = run.prompt.task
        depths[task].append(Depths(task, run.prompt.number, tuple(step.layers_used for step in steps)))
        usage[task].append([len(steps) * (share or 0.0) for share in per_layer_usage(run.trace.header, steps)])
        for name, layers in _class_layers(run).items():
            by_class[name].append((sum(layers), len(layers)))
    return {
        "tasks": {task: _task(depths[task], usage[task]) for task in depths},
        "pairs": _pairs(depths),
        "token_classes": {name: _class(by_class[name]) for name in CLASSES if by_class[name]},
    }


def _task(runs: list[Depths], usage: list[list[float]]) -> dict[str, Any]:
    every = [layers for run in runs for layers in run.layers]
    lengths = [len(run.layers) for run in runs]
    interval = ratio_interval([sum(run.layers) for run in runs], lengths)
    layers = ratio_intervals(usage, [[length] * len(usage[0]) for length in lengths])
    counts = Counter(every)
    return {
        "n": len(runs),
        "tokens": len(every),
        "mean_layers": interval.mean,
        "ci95": [interval.low, interval.high],
        "var_layers": statistics.pvariance(every),
        "var_over_prompts": statistics.variance([run.mean for run in runs]) if len(runs) > 1 else 0.0,
        "per_layer_usage": [layer.mean if layer else 0.0 for layer in layers],
        "per_layer_ci95": [_ends(layer) for layer in layers],
        "depth_shares": {str(depth): counts[depth] / len(every) for depth in sorted(counts)},
        "along": _along(runs),
    }


def _along(runs: list[Depths]) -> list[dict[str, Any]]:
    """Mean depth of stretches of the answer, which grow longer as fewer answers reach them."""
    edges = [edge for edge in _STRETCHES if edge < max(len(run.layers) for run in runs)]
    spans = [slice(first, last) for first, last in zip(edges, [*edges[1:], None], strict=True)]
    parts = [[run.layers[span] for span in spans] for run in runs]
    means = ratio_intervals(
        [[sum(part) for part in row] for row in parts], [[len(part) for part in row] for row in parts]
    )
    return [
        {
            "first": span.start,
            "tokens": sum(len(row[place]) for row in parts),
            "mean_layers": mean.mean,
            "ci95": _ends(mean),
        }
        for place, (span, mean) in enumerate(zip(spans, means, strict=True))
        if mean is not None
    ]


def _ends(interval: Interval | None) -> list[float]:
    return [interval.low, interval.high] if interval else [0.0, 0.0]


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
