"""How the next token is drawn from logits. Knows numbers and a seed; knows no model, no text and no routes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flexidepth.errors import UsageError

_COLDEST = 1e-6  # below it float32 divides by zero; the likeliest token has long had all the probability
_USUALLY_ENOUGH = (
    1024  # likeliest tokens that hold the nucleus of most distributions; sorting all takes ten times longer
)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. temperature 0 takes the likeliest."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int

    def check(self, context: int) -> None:
        """Raises UsageError for a value out of range. context: the model's longest sequence."""
        if not 1 <= self.max_new_tokens <= context:
            raise UsageError(f"max_new_tokens must lie between 1 and {context}, not {self.max_new_tokens}")
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= 100.0):
            raise UsageError(f"temperature must lie between 0 and 100, not {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p must lie above 0 and not above 1, not {self.top_p}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed must lie between 0 and {2**63 - 1}, not {self.seed}")


class Sampler:
    """Draws token ids from logits; the same seed draws the same tokens, whatever device computed the logits."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.top_p = sampling.top_p
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, logits: Tensor) -> int:
        """[V], on the CPU -> token id"""
        if self.temperature == 0.0:
            return int(logits.numpy().argmax())
        probabilities = _softmax(logits / max(self.temperature, _COLDEST))
        if self.top_p < 1.0:
            probabilities = nucleus(probabilities, self.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))


def _softmax(logits: Tensor) -> Tensor:
    """[V] -> [V]; in NumPy, on one thread, for the reason given in answer.distribution."""
    weights = np.exp(logits.numpy() - logits.numpy().max())
    return torch.from_numpy(weights / weights.sum())


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """[V] with zeros for all but the likeliest tokens that together reach top_p. The rest keeps its values."""
    likeliest, ids = probabilities.topk(min(_USUALLY_ENOUGH, len(probabilities)))
    if likeliest.sum() < top_p:
        likeliest, ids = probabilities.sort(descending=True)
    kept = likeliest.cumsum(0) - likeliest < top_p
    return torch.zeros_like(probabilities).scatter(0, ids[kept], likeliest[kept])
