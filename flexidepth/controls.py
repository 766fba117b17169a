"""The two controls of routing: the same layers at the same rates, chosen without looking at the token.

Given the rates at which the routers run their layers, "random" draws each token's layers at those rates, and "static"
always skips the same layers, about as many as the routers skip on average, chosen to harm least. "static-equal" skips
exactly as many: one layer more, for a share of the tokens drawn at random. All go through the trained adapters: what
they lack is the choice alone. Knows tensors and the model; knows no files and no scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flexidepth.losses import token_divergence
from flexidepth.modeling import FlexiDepthForCausalLM


def drawn_tape(rates: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """[*shape, R] bool: every routed layer runs with its rate (R values in 0..1), independently for each token."""
    return torch.rand(*shape, len(rates), generator=generator) < rates.cpu().float()


def static_rates(chosen: Sequence[int], routed: int, count: float) -> Tensor:
    """[R] rates that skip `count` layers a token: the first of `chosen` (numbers 0 .. R-1) never run, the last one for
    what is left of a token, all others always. chosen: count, rounded up, of them.
    """
    rates = torch.ones(routed, dtype=torch.float64)
    for place, layer in enumerate(chosen):
        rates[layer] = max(0.0, 1.0 - (count - place))
    return rates


@torch.inference_mode()
def least_harmful(model: FlexiDepthForCausalLM, windows: Sequence[Tensor], count: int) -> list[int]:
    """The `count` routed layers (numbers 0 .. R-1) to skip always, found greedily by KL to the base on [1, T] windows,
    in the order in which they were chosen.

    Each choice is made with the earlier ones in place, as the best subset of a larger size need not be the sum of the
    best single layers.
    """
    base = [model(ids, routes="all", use_cache=False).logits for ids in windows]
    chosen: list[int] = []
    for _ in range(count):
        rest = [layer for layer in range(model.config.num_routed) if layer not in chosen]
        chosen.append(min(rest, key=lambda layer: _divergence(model, windows, base, [*chosen, layer])))
    return chosen


def _divergence(
    model: FlexiDepthForCausalLM, windows: Sequence[Tensor], base: Sequence[Tensor], skipped: list[int]
) -> float:
    """Sum over tokens of KL(base || model with these layers skipped), nats."""
    total = 0.0
    for ids, expected in zip(windows, base, strict=True):
        tape = torch.ones(*ids.shape, model.config.num_routed, dtype=torch.bool, device=model.device)
        tape[..., skipped] = False
        total += token_divergence(model(ids, routes=tape, use_cache=False).logits, expected).sum().item()
    return total
