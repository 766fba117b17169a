"""Intervals and tests against scipy, against every sign flip there is, and against corrections made by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.intervals import Interval, holm, paired_test, ratio_interval, ratio_intervals

depths = st.lists(st.integers(0, 60), min_size=2, max_size=12)


def by_scipy(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    found = stats.bootstrap(
        (sums, counts),
        lambda total, size, axis=-1: total.sum(axis) / size.sum(axis),
        paired=True,
        method="percentile",
        confidence_level=0.95,
        n_resamples=10_000,
        rng=np.random.default_rng(99),
    ).confidence_interval
    return found.low, found.high


def assert_same_interval(found: Interval, low: float, high: float) -> None:
    assert found.low == pytest.approx(low, abs=0.04 * (high - low))
    assert found.high == pytest.approx(high, abs=0.04 * (high - low))


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 3.0, 60)
    found = ratio_interval(values.tolist(), [1.0] * len(values))
    assert found.mean == pytest.approx(values.mean())
    assert_same_interval(found, *by_scipy(values, np.ones_like(values)))


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_layers_per_token_draws_whole_answers_as_scipy_does(seed: int) -> None:
    source = np.random.default_rng(seed)
    counts = source.integers(1, 200, 50).astype(float)
    sums = counts * source.normal(24.0, 2.0, len(counts))
    found = ratio_interval(sums.tolist(), counts.tolist())
    assert found.mean == pytest.approx(sums.sum() / counts.sum()), "long answers weigh more"
    assert_same_interval(found, *by_scipy(sums, counts))


def test_several_ratios_at_once_are_each_what_it_is_alone() -> None:
    source = np.random.default_rng(3)
    counts = source.integers(1, 9, (30, 1)).astype(float)
    sums = counts * source.normal(5.0, 1.0, (30, 2))
    several = ratio_intervals(sums.tolist(), np.hstack([counts, counts]).tolist())
    for place, found in enumerate(several):
        assert found is not None
        assert found.mean == pytest.approx(sums[:, place].sum() / counts.sum())
        assert_same_interval(found, *by_scipy(sums[:, place], counts[:, 0]))


def test_a_ratio_of_nothing_is_none_and_draws_without_any_are_left_out() -> None:
    nothing, some = ratio_intervals([[0, 6], [0, 0]], [[0, 3], [0, 0]])
    assert nothing is None
    assert some == Interval(2.0, 2.0, 2.0)


def test_two_answers_are_drawn_together_or_one_of_them_twice() -> None:
    found = ratio_interval([20, 90], [1, 3])
    assert (found.mean, found.low, found.high) == (27.5, 20.0, 30.0)


def test_one_answer_has_no_width() -> None:
    assert ratio_interval([50], [2]) == Interval(25.0, 25.0, 25.0)


@settings(max_examples=20, deadline=None)
@given(depths, st.integers(0, 9))
def test_an_interval_lies_within_the_data_around_the_mean_and_repeats(values: list[int], seed: int) -> None:
    ones = [1.0] * len(values)
    found = ratio_interval(values, ones, seed=seed)
    assert min(values) <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= max(values)
    assert found == ratio_interval(values, ones, seed=seed)


@settings(max_examples=20, deadline=None)
@given(depths, st.integers(-20, 20), st.integers(1, 5))
def test_an_interval_moves_and_stretches_with_its_values(values: list[int], move: int, stretch: int) -> None:
    ones = [1.0] * len(values)
    plain = ratio_interval(values, ones)
    moved = ratio_interval([stretch * value + move for value in values], ones)
    expected = [stretch * edge + move for edge in (plain.mean, plain.low, plain.high)]
    assert [moved.mean, moved.low, moved.high] == pytest.approx(expected, abs=1e-9)


def test_another_seed_draws_other_answers() -> None:
    values = np.random.default_rng(0).normal(size=20).tolist()
    assert ratio_interval(values, [1.0] * 20, seed=1) != ratio_interval(values, [1.0] * 20, seed=2)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=7))
def test_p_is_that_of_every_sign_flip(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    difference = np.subtract(second, first)
    flips = np.array(list(product((-1, 1), repeat=len(pairs))))
    exact = np.mean(abs((flips * difference).sum(1)) >= abs(difference.sum()))
    assert paired_test(first, second).p == pytest.approx(exact, abs=0.025)


@pytest.mark.parametrize("seed", range(4))
def test_p_is_that_of_scipys_paired_permutations(seed: int) -> None:
    source = np.random.default_rng(seed)
    first = source.normal(20.0, 2.0, 10)
    second = first + source.normal(0.8, 1.5, 10)
    expected = stats.permutation_test(
        (second, first),
        lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    found = paired_test(first.tolist(), second.tolist())
    assert found.difference.mean == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)


def test_a_difference_is_second_minus_first_with_the_interval_of_its_pairs() -> None:
    source = np.random.default_rng(5)
    first, second = source.normal(20.0, 4.0, 40), source.normal(22.0, 4.0, 40)
    found = paired_test(first.tolist(), second.tolist()).difference
    assert found.mean == pytest.approx((second - first).mean())
    assert found.mean > 0
    assert_same_interval(found, *by_scipy(second - first, np.ones(40)))


def test_swapped_sides_turn_the_sign_and_keep_p() -> None:
    first, second = [20.0, 21.0, 25.0, 19.0, 24.0], [22.0, 21.5, 24.0, 23.0, 27.0]
    there, back = paired_test(first, second), paired_test(second, first)
    assert there.p == back.p
    assert there.difference.mean == -back.difference.mean


def test_equal_sides_have_a_p_of_one_and_no_p_is_ever_zero() -> None:
    assert paired_test([20.0, 25.0], [20.0, 25.0]).p == 1.0
    apart = paired_test([0.0] * 60, [10.0] * 60)
    assert apart.p == pytest.approx(1 / 10_001), "of 2 ** 60 flips none of those drawn is as far out"


def test_holm_is_right_on_an_example_worked_by_hand() -> None:
    """Smallest to largest: 4 * 0.005, 3 * 0.01, 2 * 0.03, then 0.04 itself, which may not fall below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.5, 0.6, 0.9], [1.0, 1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.04, 0.001, 0.3], [0.08, 0.003, 0.3]),
        ([0.01, 0.015, 0.02, 0.9], [0.04, 0.045, 0.045, 0.9]),
    ],
)
def test_holm_as_statsmodels_multipletests_gives_it(raw: list[float], corrected: list[float]) -> None:
    """Worked by hand after the rule of multipletests(raw, method="holm"): running maximum of (m - rank) * p, at most
    one.
    """
    assert holm(raw) == pytest.approx(corrected)


@given(st.lists(st.floats(0, 1), max_size=8), st.randoms(use_true_random=False))
def test_holm_only_raises_keeps_the_order_and_follows_its_p(raw: list[float], random) -> None:
    corrected = holm(raw)
    assert all(p <= after <= 1.0 for p, after in zip(raw, corrected, strict=True))
    assert sorted(corrected) == [after for _, after in sorted(zip(raw, corrected, strict=True))]
    places = list(range(len(raw)))
    random.shuffle(places)
    assert holm([raw[place] for place in places]) == pytest.approx([corrected[place] for place in places])


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.1]))
def test_holm_rejects_what_the_step_down_rule_rejects(raw: list[float], level: float) -> None:
    rejected = set()
    for rank, place in enumerate(sorted(range(len(raw)), key=lambda place: raw[place])):
        if (len(raw) - rank) * raw[place] > level:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(raw)) if p <= level} == rejected
