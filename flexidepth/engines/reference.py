"""The reference engine: the transformers model as it is, one pass a step. Defines what every other engine must
give.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from flexidepth.engines import PassOutput
from flexidepth.errors import UsageError
from flexidepth.modeling import FlexiDepthForCausalLM


class ReferenceEngine:
    """Works on every device and for every model that loads.

    routes: "learned", "all", "none", or a route tape [S, R] bool with one row a position, prompt first. about: why
    this engine.
    """

    name = "reference"

    def __init__(
        self,
        model: FlexiDepthForCausalLM,
        *,
        routes: str | Tensor = "learned",
        threshold: float | None = None,
        about: str = "as asked",
    ) -> None:
        self.model = model
        self.routes = routes
        self.threshold = threshold
        self.about = about

    # On the methods and not around a loop: a page may run consecutive steps on different threads.
    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], *, all_logits: bool = False) -> tuple[DynamicCache, PassOutput]:
        cache = DynamicCache(config=self.model.config)
        return cache, self._run(cache, ids, logits_to_keep=0 if all_logits else 1)

    @torch.inference_mode()
    def step(self, state: DynamicCache, token_id: int) -> PassOutput:
        return self._run(state, [token_id], logits_to_keep=1)

    def _run(self, cache: DynamicCache, ids: Sequence[int], *, logits_to_keep: int) -> PassOutput:
        outputs = self.model(
            torch.tensor([ids], device=self.model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
            routes=self._routes(cache.get_seq_length(), len(ids)),
            threshold=self.threshold,
        )
        return PassOutput(outputs.logits[0].float(), outputs.gates[0], outputs.executed[0])

    def _routes(self, seen: int, count: int) -> str | Tensor:
        if isinstance(self.routes, str):
            return self.routes
        if len(self.routes) < seen + count:
            raise UsageError(f"the route tape ends after {len(self.routes)} positions: record a longer run")
        return self.routes[None, seen : seen + count]  # [1, T, R]
