"""One routed decoder layer: the run path, the skip path, and keys and values for every token.

Given the hidden states and what the caller decided about routes, returns hidden states, gates and executed flags.
Knows nothing of the stack around it, of losses, or of where routes come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, rotate_half

from flexidepth.configuration import FlexiDepthConfig
from flexidepth.router import Adapter, Router


@dataclass(frozen=True)
class LayerRoute:
    """How one layer of one forward pass chooses.

    threshold: a gate above it runs the layer. forced: [B, T] bool, or None to let the gates decide. unscaled: run rows
    take factor 1 whatever the gate says, which makes an all-run pass the untouched base model. dense: compute both
    branches for every row and mask, instead of gathering rows; the result is the same. sampled: run with the gate as
    probability instead of by the threshold, so that in training every layer is now and then run and skipped.
    """

    threshold: float
    forced: Tensor | None = None
    unscaled: bool = False
    dense: bool = False
    sampled: bool = False

    def decide(self, gates: Tensor) -> Tensor:
        """[B, T] gates -> [B, T] bool, whether the layer runs."""
        if self.forced is not None:
            return self.forced.to(gates.device)  # under a device map the layers lie on several
        return torch.rand_like(gates) < gates if self.sampled else gates > self.threshold


class RoutedAttention(LlamaAttention):
    """Llama attention that can also do only what a skipped token still owes to later ones: its key and value."""

    def remember(self, normed: Tensor, position_embeddings: tuple[Tensor, Tensor], cache: Cache) -> None:
        """Writes keys and values of [B, T, D] normalised input to the cache; computes no query, score or output."""
        heads = (*normed.shape[:-1], -1, self.head_dim)
        keys = self.k_proj(normed).view(heads).transpose(1, 2)  # [B, H_kv, T, d]
        values = self.v_proj(normed).view(heads).transpose(1, 2)
        cos, sin = (table.unsqueeze(1) for table in position_embeddings)
        cache.update(keys * cos + rotate_half(keys) * sin, values, self.layer_idx)


class FlexiDepthDecoderLayer(LlamaDecoderLayer):
    """A Llama decoder layer with a router and an adapter (paper, section 3; order of operations of the released code).

    x = input_layernorm(h); g = router(x); run = g > threshold; keys and values come from x for every token;
    h += run * attention(x); y = post_attention_layernorm(h); h += run * g * FFN(y) + (1 - run) * (1 - g) * adapter(y).
    """

    self_attn: RoutedAttention

    def __init__(self, config: FlexiDepthConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.self_attn = RoutedAttention(config, layer_idx)
        self.router = Router(config)
        self.router_proj = Adapter(config)
        self.scaled = config.gate_scaling == "scaled"

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        route: LayerRoute,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] -> hidden states [B, T, D], gates [B, T] float32, executed [B, T] bool."""
        assert position_embeddings is not None
        normed = self.input_layernorm(hidden_states)
        gates = self.router(normed)  # [B, T]
        executed = route.decide(gates)
        # A hard gate reaches its router only through both branches' values, so training it needs them for every row.
        dense = route.dense or (self.training and not self.scaled)

        if dense or executed.any():
            attended, _ = self.self_attn(
                hidden_states=normed,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                **kwargs,
            )
        else:
            attended = None
            if past_key_values is not None:
                self.self_attn.remember(normed, position_embeddings, past_key_values)

        if dense:
            hidden_states = self._masked(hidden_states, attended, gates, executed, route)
        elif attended is None:
            hidden_states = hidden_states + self._skip(self.post_attention_layernorm(hidden_states), gates)
        elif executed.all():
            hidden_states = hidden_states + attended
            hidden_states = hidden_states + self._run(
                self.post_attention_layernorm(hidden_states), gates, route.unscaled
            )
        else:
            hidden_states = hidden_states + attended * executed.unsqueeze(-1)
            hidden_states = hidden_states + self._gathered(hidden_states, gates, executed, route.unscaled)
        return hidden_states, gates, executed

    def _run(self, normed: Tensor, gates: Tensor, unscaled: bool) -> Tensor:
        update = self.mlp(normed)
        return update * gates.unsqueeze(-1).to(update.dtype) if self.scaled and not unscaled else update

    def _skip(self, normed: Tensor, gates: Tensor) -> Tensor:
        update = self.router_proj(normed)
        return update * (1 - gates).unsqueeze(-1).to(update.dtype) if self.scaled else update

    def _gathered(self, hidden_states: Tensor, gates: Tensor, executed: Tensor, unscaled: bool) -> Tensor:
        """FFN on the rows that run, adapter on the rows that skip; neither touches the other's rows."""
        normed = self.post_attention_layernorm(hidden_states).flatten(0, 1)  # [N, D]
        flat_gates = gates.flatten()
        run = executed.flatten().nonzero().squeeze(1)  # [n_run]
        skip = (~executed).flatten().nonzero().squeeze(1)  # [N - n_run]
        ran = self._run(normed[run], flat_gates[run], unscaled)
        skipped = self._skip(normed[skip], flat_gates[skip])
        update = torch.zeros_like(normed, dtype=ran.dtype).index_copy(0, run, ran).index_copy(0, skip, skipped)
        return update.view_as(hidden_states)

    def _masked(
        self, hidden_states: Tensor, attended: Tensor, gates: Tensor, executed: Tensor, route: LayerRoute
    ) -> Tensor:
        """Both branches for every row; the forward value equals `_gathered`'s."""
        run = executed.to(gates.dtype)
        if self.training and not self.scaled and route.forced is None:
            run = _straight_through(run, gates, route.sampled)
        run = run.unsqueeze(-1).to(hidden_states.dtype)  # [B, T, 1]
        hidden_states = hidden_states + run * attended
        normed = self.post_attention_layernorm(hidden_states)
        ran, skipped = self._run(normed, gates, route.unscaled), self._skip(normed, gates)
        return hidden_states + run * ran + (1 - run) * skipped


def _straight_through(run: Tensor, gates: Tensor, sampled: bool) -> Tensor:
    """Forward 0 or 1, backward the gate's gradient.

    The slope of the loss at a skipped layer overrates running it and the slope at a run layer underrates it, by the
    same curvature. Of a sampled decision each is seen with its own probability; weighing both alike (half over that
    probability, at most tenfold) cancels the curvature and leaves the difference between running and skipping.
    """
    if not sampled:
        return run + gates - gates.detach()
    chosen = torch.where(run > 0, gates, 1 - gates).detach()
    return run + 0.5 / chosen.clamp_min(0.05) * (gates - gates.detach())
