"""How strongly skipping is rewarded at each training step. Knows numbers only: no model, no trainer."""

from __future__ import annotations

from dataclasses import dataclass

from flexidepth.settings import TrainingSettings

_SMOOTHING = 0.2  # weight of the newest step in the depth that is compared with the target


@dataclass(frozen=True)
class Penalty:
    """alpha of L = L_fit + alpha * L_skip after `step` optimizer steps.

    Without a target depth alpha rises linearly to `skip_penalty` and stays. With one it is `skip_penalty` until the
    mean layers used have come down to the target (alignment), then `anneal` times that to the end (annealing): the
    authors' two stages, at whose second skipping stays and quality recovers. It is lowered for good: a penalty that is
    kept high shrinks the gates of layers that run, and the model drifts away from its base.
    """

    value: float
    step: int = 0
    depth: float | None = None  # mean layers used, smoothed over steps
    annealing: bool = False

    @classmethod
    def first(cls, settings: TrainingSettings) -> Penalty:
        return cls(settings.skip_penalty if settings.target_depth is not None else _ramped(settings, 0))

    def after(self, settings: TrainingSettings, mean_layers_used: float) -> Penalty:
        """The penalty of the next step, given the mean layers used in this one."""
        step = self.step + 1
        depth = mean_layers_used if self.depth is None else self.depth + _SMOOTHING * (mean_layers_used - self.depth)
        if settings.target_depth is None:
            return Penalty(_ramped(settings, step), step, depth)
        annealing = self.annealing or depth <= settings.target_depth
        return Penalty(settings.skip_penalty * (settings.anneal if annealing else 1.0), step, depth, annealing)


def _ramped(settings: TrainingSettings, step: int) -> float:
    return settings.skip_penalty * min(1.0, (step + 1) / max(1.0, settings.penalty_ramp * settings.steps))
