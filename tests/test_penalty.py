"""The penalty's path: a ramp, or whatever keeps the mean depth at its target."""

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


@pytest.mark.parametrize("needed", [1e-3, 4e-3, 2e-2])
@pytest.mark.parametrize("start", [25.0, 30.0])
def test_depth_comes_to_its_target_and_stays_whatever_penalty_that_takes(needed, start):
    """Against a model that moves by a twentieth of a layer a step, towards more layers when alpha is too low."""
    settings = TrainingSettings(out="x", steps=9, skip_penalty=4e-3, target_depth=27.0)
    penalty, depth, depths = Penalty.first(settings), start, []
    for _ in range(1500):
        depth += 0.05 if penalty.value < needed else -0.05
        depth = min(30.0, max(15.0, depth))
        penalty = penalty.after(settings, depth)
        penalty = Penalty(**asdict(penalty))  # as a resumed run reads it
        depths.append(depth)
    assert all(abs(depth - 27.0) < 0.6 for depth in depths[1000:])
    assert min(depths[100:]) > 24.0, "no swing far below the target"
    assert penalty.level == pytest.approx(needed, rel=0.5)
