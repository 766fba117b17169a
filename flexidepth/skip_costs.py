"""What skipping a layer costs a token, measured, and routers that start by predicting it.

A router that is trained from nothing together with the adapters first learns which layers are cheap for every token,
and the tokens never come apart. Here each token of a text skips one routed layer, drawn at random; the KL divergence
at that token is the price of the skip, and each router is fitted to say whether its layer's price lies above a common
one. Knows rows of token ids and the model; knows no trainer. For hard gates: a scaled skip has no price of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flexidepth.losses import token_divergence
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.router import Router
from flexidepth.warm_start import read_constant, routed

_STEEPNESS = 1.5  # gate logit for a price e times the common one
_FLOOR = 1e-4  # nats; lower prices are noise of the arithmetic
_STEPS, _SETTLING_STEPS, _SAMPLE = 500, 150, 1024


@dataclass(frozen=True)
class SkipCosts:
    """One measurement a token: which routed layer it skipped (0 .. R-1), that layer's normalised input, and the KL."""

    layer: Tensor  # [N] int64
    normed: Tensor  # [N, D] float16
    nats: Tensor  # [N] float32

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        chosen = self.layer == layer
        return self.normed[chosen].float(), self.nats[chosen].clamp_min(_FLOOR)


@torch.inference_mode()
def measure(model: FlexiDepthForCausalLM, batches: Iterable[Tensor]) -> SkipCosts:
    """Skips one routed layer a token over [B, T] batches of token ids."""
    layers = routed(model)
    seen: list[Tensor] = []
    hooks = [layer.router.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for layer in layers]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        for ids in batches:
            chosen = torch.randint(0, len(layers), ids.shape, device=ids.device)  # [B, T]
            tape = F.one_hot(chosen, len(layers)) == 0  # [B, T, R]
            seen.clear()
            outputs = model(ids, routes=tape, with_teacher=True, use_cache=False)
            # With the teacher aboard each router is called twice, first for the base model's own states.
            normed = torch.stack(seen[1::2], dim=2)  # [B, T, R, D]
            own = normed.gather(2, chosen[..., None, None].expand(-1, -1, 1, normed.shape[-1])).squeeze(2)
            nats = token_divergence(outputs.logits, outputs.teacher_logits)  # [B, T]
            parts.append((chosen.flatten(), own.flatten(0, 1).half(), nats.flatten()))
    finally:
        for hook in hooks:
            hook.remove()
    layer, normed, nats = (torch.cat(column) for column in zip(*parts, strict=True))
    return SkipCosts(layer, normed, nats)


def fit_routers(model: FlexiDepthForCausalLM, costs: SkipCosts, *, skipped: float) -> float:
    """Fits every router so that a gate of 1/2 marks the price at which tokens skip `skipped` layers on average.

    Returns that price in nats. First each router learns the logarithm of the expected cost (gamma deviance: costs span
    four decades, and an error counts relative to its cost); then that, less the price's logarithm, becomes the logit.
    """
    routers = [layer.router for layer in routed(model)]
    inputs, found = [], []
    for number, router in enumerate(routers):
        normed, nats = costs.of(number)
        _reset(router, normed.mean(0))
        _descend(router, normed, nats, lambda logit, cost: (cost * (-logit).exp()).clamp_max(50) + logit, 4e-3, _STEPS)
        inputs.append(normed)
        found.append(_logits(router, normed))
    everything = torch.cat(found)
    share = min(1.0, max(0.0, skipped / len(routers)))
    price = torch.quantile(everything[:: max(1, len(everything) // 1_000_000)], share).item()
    for router, normed, log_cost in zip(routers, inputs, found, strict=True):
        with torch.no_grad():
            router.router_head.weight *= _STEEPNESS
        wanted = _STEEPNESS * (log_cost - price)
        _descend(router, normed, wanted, lambda logit, goal: F.smooth_l1_loss(logit, goal), 2e-3, _SETTLING_STEPS)
    return math.exp(price)


def _reset(router: Router, mean: Tensor) -> None:
    """Fresh weights; one feature reads about the same for every token, as a router has no bias."""
    size = mean.numel()
    nn.init.normal_(router.router_enc.weight, std=size**-0.5)
    nn.init.normal_(router.router_dec.weight, std=0.05)
    nn.init.normal_(router.router_head.weight, std=0.3)
    nn.init.ones_(router.router_norm.weight)
    read_constant(router, mean)


@torch.no_grad()
def _logits(router: Router, normed: Tensor) -> Tensor:
    return torch.cat([router.logits(part) for part in normed.split(4096)])


def _descend(
    router: Router,
    normed: Tensor,
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    learning_rate: float,
    steps: int,
) -> None:
    parameters = list(router.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        sample = torch.randint(0, len(normed), (_SAMPLE,), device=normed.device)
        value = loss(router.logits(normed[sample]), target[sample]).mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
