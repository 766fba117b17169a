"""The penalty's path: a ramp, or a controller that reaches its depth on any plausible response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexidepth.penalty import Penalty
from flexidepth.settings import TrainingSettings


def test_ramp_reaches_the_full_penalty_and_stays():
    settings = TrainingSettings(out="x", steps=10, penalty_ramp=0.5, skip_penalty=1.0)
    penalty, values = Penalty.first(settings), []
    for _ in range(10):
        values.append(penalty.value)
        penalty = penalty.after(settings, 30.0, 30)
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])


@given(strength=st.floats(300.0, 3000.0), target=st.floats(24.0, 28.5))
def test_depth_follows_its_target(strength, target):
    """A model whose depth falls with the penalty ends near the target, whatever its response."""
    settings = TrainingSettings(out="x", steps=400, penalty_ramp=0.5, skip_penalty=1e-3, target_depth=target)
    penalty, depth = Penalty.first(settings), 30.0
    for _ in range(400):
        depth += 0.1 * (30.0 - 15.0 * min(1.0, penalty.value * strength / 10) - depth)  # it also lags
        penalty = penalty.after(settings, depth, 30)
    assert depth == pytest.approx(target, abs=0.5)


def test_bounds():
    settings = TrainingSettings(out="x", steps=4, skip_penalty=1e-3, target_depth=20.0)
    assert Penalty(0.099, 4).after(settings, 100.0, 30).value == 0.1
    assert Penalty(1e-5, 4).after(settings, -100.0, 30).value == 1e-6
