"""Initial routers and adapters, fitted to the frozen base model before joint training.

Each adapter learns, by regression, what its layer adds to the residual stream; each router is set so that its gates
start near a given value. Knows rows of token ids and the model; knows no trainer and no loss of the joint stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flexidepth.layer import FlexiDepthDecoderLayer
from flexidepth.modeling import FlexiDepthForCausalLM

Report = Callable[[int, list[float]], None]


def routed(model: FlexiDepthForCausalLM) -> list[FlexiDepthDecoderLayer]:
    return [layer for layer in model.model.layers if isinstance(layer, FlexiDepthDecoderLayer)]


class _ResidualUpdates:
    """Records every routed layer's input and what the layer adds to it, while the base model runs."""

    def __init__(self, layers: list[FlexiDepthDecoderLayer]) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self._hooks = [layer.register_forward_hook(self._record) for layer in layers]

    def _record(self, _: nn.Module, args: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        self.seen.append((args[0], output[0] - args[0]))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def base_updates(model: FlexiDepthForCausalLM, input_ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each routed layer of the unrouted model: hidden states in [B, T, D] and the residual update [B, T, D]."""
    recorder = _ResidualUpdates(routed(model))
    try:
        with torch.no_grad():
            model(input_ids, routes="all", use_cache=False, logits_to_keep=1)
        return recorder.seen
    finally:
        recorder.close()


def fit_adapters(
    model: FlexiDepthForCausalLM, batches: list[Tensor], *, learning_rate: float, report: Report = lambda *_: None
) -> list[float]:
    """One AdamW step a batch on the relative squared error, all adapters at once. Returns the last error per layer."""
    layers = routed(model)
    adapters = [parameter for layer in layers for parameter in layer.router_proj.parameters()]
    optimizer = torch.optim.AdamW(adapters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    errors: list[float] = []
    for step, input_ids in enumerate(batches):
        losses = []
        for layer, (hidden, update) in zip(layers, base_updates(model, input_ids), strict=True):
            fitted = layer.router_proj(layer.post_attention_layernorm(hidden))
            # Per token, so that the few tokens with huge updates do not drown all others.
            losses.append(((fitted - update).square().sum(-1) / update.square().sum(-1).clamp_min(1e-6)).mean())
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(adapters, 1.0 * len(layers))
        optimizer.step()
        schedule.step()
        errors = [loss.item() for loss in losses]
        report(step, errors)
    optimizer.zero_grad()
    return errors


@torch.no_grad()
def centre_gates(model: FlexiDepthForCausalLM, input_ids: Tensor, *, gate: float) -> list[float]:
    """Sets every router so that its gates start near `gate`. Returns each layer's mean gate.

    A router has no bias, so a constant has to come from its input: one row of the reducing matrix is aligned with the
    mean input, and the rest of the way is a ridge regression of the wanted logit on the router's own features.
    """
    wanted = math.log(gate / (1 - gate))
    means = []
    for layer, (hidden, _) in zip(routed(model), base_updates(model, input_ids), strict=True):
        router = layer.router
        normed = layer.input_layernorm(hidden).flatten(0, 1).float()  # [N, D]
        width, size = router.router_enc.weight.shape
        nn.init.normal_(router.router_enc.weight, std=size**-0.5)
        mean = normed.mean(0)
        router.router_enc.weight[0] = 4 * mean / mean.square().sum()  # reads about 4 where the others read about 1
        features = router.features(normed)  # [N, r]
        gram = features.T @ features / len(features)
        readout = torch.linalg.solve(gram + 0.1 * torch.eye(width), wanted * features.mean(0))  # [r]
        direction = nn.functional.normalize(torch.randn(size), dim=0)
        nn.init.normal_(router.router_dec.weight, std=0.02)
        router.router_dec.weight -= torch.outer(direction, direction @ router.router_dec.weight)
        router.router_dec.weight += torch.outer(direction, readout)
        router.router_head.weight[0] = direction
        means.append(router(normed).mean().item())
    return means
