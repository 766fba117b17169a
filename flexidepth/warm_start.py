"""Initial routers and adapters, fitted to the frozen base model before joint training.

Each adapter learns, by regression, what its layer adds to the residual stream, errors weighed by what they would cost
in the model's predictions (sensitivity.py); each router is set so that its gates start near a given value. Knows rows
of token ids and the model; knows no trainer and no loss of the joint stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flexidepth.layer import FlexiDepthDecoderLayer
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.router import Router
from flexidepth.sensitivity import cost, sensitivities

_COST_SCALE = 0.1  # nats
_SENSITIVITY_BATCHES = 2
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
    """One AdamW step a batch, all adapters at once, on the approximate cost in nats of skipping a layer.

    Returns, per layer, the share of that cost which the adapter leaves, 1.0 being an adapter that adds nothing.
    """
    layers = routed(model)
    factors = sensitivities(model, batches[:_SENSITIVITY_BATCHES])
    adapters = [parameter for layer in layers for parameter in layer.router_proj.parameters()]
    optimizer = torch.optim.AdamW(adapters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches), eta_min=0.1 * learning_rate)
    left: list[float] = []
    for step, input_ids in enumerate(batches):
        losses, without = [], []
        for layer, factor, (hidden, update) in zip(layers, factors, base_updates(model, input_ids), strict=True):
            fitted = layer.router_proj(layer.post_attention_layernorm(hidden))
            losses.append(_bounded(cost(factor, fitted - update, hidden + update)))
            without.append(_bounded(cost(factor, update, hidden + update)))
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(adapters, 1.0)
        optimizer.step()
        schedule.step()
        left = (torch.stack(losses).detach() / torch.stack(without)).tolist()
        report(step, left)
    optimizer.zero_grad()
    return left


def _bounded(costs: Tensor) -> Tensor:
    """Mean of costs, those far above the scale counted by their logarithm: such tokens will run the layer anyway, and
    the adapter should serve those that skip it.
    """
    return (_COST_SCALE * torch.log1p(costs / _COST_SCALE)).mean()


@torch.no_grad()
def read_constant(router: Router, mean: Tensor) -> None:
    """Lets one feature read about the same for every token, as a router has no bias: about 4 on the [D] mean input,
    where the others read about 1.
    """
    router.router_enc.weight[0] = 4 * mean / mean.square().sum()


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
        read_constant(router, normed.mean(0))
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
