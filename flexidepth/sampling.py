"""How the next token is drawn from logits. Knows numbers and a seed; knows no model, no text and no routes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from flexidepth.errors import UsageError

_COLDEST = 1e-6  # below it float32 divides by zero; the likeliest token has long had all the probability


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
    """Draws token ids from logits; the same seed draws the same tokens."""

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self.greedy = sampling.temperature == 0.0
        self.generator = torch.Generator(device).manual_seed(sampling.seed)
        self.warpers = LogitsProcessorList()
        if not self.greedy and sampling.temperature != 1.0:
            self.warpers.append(TemperatureLogitsWarper(max(float(sampling.temperature), _COLDEST)))
        if not self.greedy and sampling.top_p < 1.0:
            self.warpers.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, logits: Tensor) -> int:
        """[V] -> token id"""
        if self.greedy:
            return int(logits.argmax())
        no_ids: Any = torch.empty(1, 0, dtype=torch.long, device=logits.device)
        scores: Any = logits[None]
        scores = self.warpers(no_ids, scores)
        return int(torch.multinomial(torch.softmax(scores[0], dim=-1), 1, generator=self.generator))
