"""How sure a mean is: bootstrap intervals over prompts, paired tests between tasks. Arrays in, numbers out.

Tokens of one answer resemble each other, so whole answers are drawn, never tokens. Knows no traces and no figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A ratio of sums, such as layers used per token, and its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Mean difference of pairs, its interval, and a two-sided sign-flip permutation p."""

    difference: Interval
    p: float


def ratio_interval(sums: Sequence[float], counts: Sequence[float], *, seed: int = 0) -> Interval:
    """Interval of sum(sums) / sum(counts) when the prompts, one entry each, are drawn anew. With counts of 1 it is
    that of a plain mean.
    """
    (interval,) = ratio_intervals([[value] for value in sums], [[value] for value in counts], seed=seed)
    assert interval is not None
    return interval


def ratio_intervals(
    sums: Sequence[Sequence[float]], counts: Sequence[Sequence[float]], *, seed: int = 0
) -> list[Interval | None]:
    """The same for K ratios of the same prompts, [N, K] each; None where nothing was counted. Draws in which a ratio
    has nothing to count are left out of its interval.
    """
    both = np.stack([np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)])  # [2, N, K]
    both = both[:, np.lexsort(np.concatenate(both, axis=1).T)]  # no matter in which order the prompts came
    prompts = both.shape[1]
    drawn = np.random.default_rng(seed).integers(0, prompts, (_RESAMPLES, prompts))
    flat = (drawn + prompts * np.arange(_RESAMPLES)[:, None]).ravel()
    times = np.bincount(flat, minlength=_RESAMPLES * prompts).reshape(_RESAMPLES, prompts).astype(float)
    total, size = times @ both[0], times @ both[1]  # [resamples, K]
    ends = ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2)
    found: list[Interval | None] = []
    for place in range(both.shape[2]):
        all_sums, all_counts = both[0, :, place].sum(), both[1, :, place].sum()
        if all_counts == 0:
            found.append(None)
            continue
        some = size[:, place] > 0
        low, high = np.quantile(total[some, place] / size[some, place], ends)
        found.append(Interval(float(all_sums / all_counts), float(low), float(high)))
    return found


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Is second - first, pair by pair, other than zero on average?"""
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (_RESAMPLES, len(differences)))
    flipped = np.abs((signs * differences).mean(1))
    beyond = int((flipped >= abs(differences.mean()) * (1 - 1e-12)).sum())
    interval = ratio_interval(differences.tolist(), [1.0] * len(differences), seed=seed)
    return PairedTest(interval, (beyond + 1) / (_RESAMPLES + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: each p as it counts among all of these."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected.tolist()
