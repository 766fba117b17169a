"""The reference engine for several sequences at once: prompts padded on the left, one pass a token for all of them.

On a CPU sixteen sequences cost little more than one, because the weights are read once for all. Padding changes the
last bits of float sums, so a token may differ from the single run's where two are all but equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from flexidepth.engines import PassOutput
from flexidepth.modeling import FlexiDepthForCausalLM


class BatchedReference:
    """B sequences under one of the named routes; their outputs have B rows where an engine's have T positions."""

    name = "reference, batched"

    def __init__(self, model: FlexiDepthForCausalLM, *, routes: str, threshold: float) -> None:
        self.model = model
        self.routes = routes
        self.threshold = threshold
        self._cache = DynamicCache(config=model.config)
        self._mask = torch.empty(0, 0, dtype=torch.long)  # [B, S], 0 for padding
        self._lengths = torch.empty(0, dtype=torch.long)  # [B], positions so far without padding

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> PassOutput:
        """Starts all sequences; logits [B, V], gates and executed [B, R] of each prompt's last position."""
        device = self.model.device
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
        self._mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt, device=device)
            self._mask[row, longest - len(prompt) :] = 1
        self._lengths = self._mask.sum(1)
        return self._run(ids, (self._mask.cumsum(1) - 1).clamp_min(0))

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> PassOutput:
        """Feeds one token to each sequence."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(token_ids), 1)], dim=1)
        output = self._run(torch.tensor(token_ids, device=self.model.device)[:, None], self._lengths[:, None])
        self._lengths = self._lengths + 1
        return output

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Drops all sequences but these."""
        chosen = torch.tensor(rows, device=self._mask.device)
        self._mask, self._lengths = self._mask[chosen], self._lengths[chosen]
        self._cache.batch_select_indices(chosen)

    def _run(self, ids: Tensor, positions: Tensor) -> PassOutput:
        outputs = self.model(
            ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            routes=self.routes,
            threshold=self.threshold,
        )
        return PassOutput(outputs.logits[:, -1].float(), outputs.gates[:, -1], outputs.executed[:, -1])
