"""How strongly skipping is rewarded at each training step. Knows numbers only: no model, no trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flexidepth.settings import TrainingSettings

_GAIN = 0.05  # relative change of the penalty a step, for each layer that the mean depth is off its target
_LOWEST, _HIGHEST = 1e-6, 1e-1


@dataclass(frozen=True)
class Penalty:
    """alpha of L = L_fit + alpha * L_skip after `step` optimizer steps.

    Without a target depth alpha rises linearly to `skip_penalty` and stays. With one it starts at `skip_penalty` and
    follows the depth: a target that sinks from all layers to `target_depth` is compared with the mean layers used of
    each step.
    """

    value: float
    step: int = 0

    @classmethod
    def first(cls, settings: TrainingSettings) -> Penalty:
        return cls(settings.skip_penalty if settings.target_depth is not None else _ramped(settings, 0))

    def after(self, settings: TrainingSettings, mean_layers_used: float, num_layers: int) -> Penalty:
        """The penalty of the next step, given the mean layers used in this one."""
        step = self.step + 1
        if settings.target_depth is None:
            return Penalty(_ramped(settings, step), step)
        sunk = min(1.0, step / max(1.0, settings.penalty_ramp * settings.steps))
        target = num_layers - (num_layers - settings.target_depth) * sunk
        value = self.value * math.exp(_GAIN * (mean_layers_used - target))
        return Penalty(min(max(value, _LOWEST), _HIGHEST), step)


def _ramped(settings: TrainingSettings, step: int) -> float:
    return settings.skip_penalty * min(1.0, (step + 1) / max(1.0, settings.penalty_ramp * settings.steps))
