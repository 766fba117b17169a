"""How strongly skipping is rewarded at each training step. Knows numbers only: no model, no trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexidepth.settings import TrainingSettings

_SMOOTHING = 0.3  # weight of the newest step in the depth that is compared with the target
_AT_ONCE = 1.0  # e-foldings of alpha for each layer too many, as long as they are too many
_FOR_GOOD = 0.01  # e-foldings a step for each layer too many, kept
_AT_MOST = 1.6  # e-foldings at once


@dataclass(frozen=True)
class Penalty:
    """alpha of L = L_fit + alpha * L_skip after `step` optimizer steps.

    Without a target depth alpha rises linearly to `skip_penalty` and stays. With one it adapts: routers integrate
    alpha, so it answers a wrong depth at once and only slowly for good (the other way round depth swings by layers).
    """

    value: float
    step: int = 0
    depth: float | None = None  # mean layers used, smoothed over steps
    level: float = 0.0  # what `value` would be at the target depth

    @classmethod
    def first(cls, settings: TrainingSettings) -> Penalty:
        if settings.target_depth is None:
            return cls(_ramped(settings, 0))
        return cls(settings.skip_penalty, level=settings.skip_penalty)

    def after(self, settings: TrainingSettings, mean_layers_used: float) -> Penalty:
        """The penalty of the next step, given the mean layers used in this one."""
        step = self.step + 1
        depth = mean_layers_used if self.depth is None else self.depth + _SMOOTHING * (mean_layers_used - self.depth)
        if settings.target_depth is None:
            return Penalty(_ramped(settings, step), step, depth)
        over = depth - settings.target_depth
        level = self.level * math.exp(_FOR_GOOD * max(-1.0, min(1.0, over)))
        return Penalty(level * math.exp(max(-_AT_MOST, min(_AT_MOST, _AT_ONCE * over))), step, depth, level)


def _ramped(settings: TrainingSettings, step: int) -> float:
    return settings.skip_penalty * min(1.0, (step + 1) / max(1.0, settings.penalty_ramp * settings.steps))
