"""The penalty's path: a ramp, or alignment until the target depth and annealing from there on."""

from dataclasses import asdict

import pytest

from flexidepth.penalty import Penalty
from flexidepth.settings import TrainingSettings


def test_ramp_reaches_the_full_penalty_and_stays():
    settings = TrainingSettings(out="x", steps=10, penalty_ramp=0.5, skip_penalty=1.0)
    penalty, values = Penalty.first(settings), []
    for _ in range(10):
        values.append(penalty.value)
        penalty = penalty.after(settings, 30.0)
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_the_penalty_is_annealed_once_and_for_good_at_the_target_depth():
    settings = TrainingSettings(out="x", steps=99, skip_penalty=1e-3, target_depth=27.0, anneal=0.1)
    penalty, values = Penalty.first(settings), []
    for depth in [30.0, 29.0, 20.0, 28.0, 26.0, 26.0, 26.0, 26.0, 29.0, 30.0, 30.0]:
        values.append(penalty.value)
        penalty = penalty.after(settings, depth)
        penalty = Penalty(**asdict(penalty))  # as a resumed run reads it
    # Smoothed depths: 30, 29.8, 27.84, 27.87, 27.50, 27.20, 26.96: one shallow step alone does not count.
    assert values == pytest.approx([1e-3] * 7 + [1e-4] * 4)
