"""How much a change of each layer's output would move the model's predictions, as one matrix a layer.

An error d of a layer's output h costs about q = 1/2 |L^T d / |h||^2 nats of KL, with L L^T the expected outer product
of |h| * (gradient of the log-probability of tokens that the model itself draws): the Fisher information of h, seen
through everything above it. Errors are taken relative to the length of h, since the norms above divide by it. Knows
rows of token ids and the model; knows no adapter and no training.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from flexidepth.layer import FlexiDepthDecoderLayer
from flexidepth.modeling import FlexiDepthForCausalLM

_ISOTROPIC = 0.1  # share of the trace spread evenly: a few thousand tokens do not show every direction


def sensitivities(model: FlexiDepthForCausalLM, batches: Iterable[Tensor]) -> Tensor:
    """[R, D, D] lower factors L, one a routed layer, estimated on [B, T] batches of token ids."""
    size, first = model.config.hidden_size, model.config.first_routed
    sums = torch.zeros(model.config.num_routed, size, size, device=model.device)
    tokens = 0
    for input_ids in batches:
        with torch.no_grad():
            states = model.model(input_ids, routes="all", use_cache=False, output_hidden_states=True).hidden_states
        outputs, gradients = _gradients(model, states[first].detach().requires_grad_(), first)
        for number, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
            scaled = (gradient * output.detach().norm(dim=-1, keepdim=True)).flatten(0, 1).float()  # [N, D]
            sums[number] += scaled.T @ scaled
        tokens += input_ids.numel()
    fisher = sums / tokens
    trace = fisher.diagonal(dim1=1, dim2=2).sum(-1).view(-1, 1, 1)
    even = trace / size * torch.eye(size, device=fisher.device)
    return torch.linalg.cholesky((1 - _ISOTROPIC) * fisher + _ISOTROPIC * even)


def _gradients(model: FlexiDepthForCausalLM, entered: Tensor, first: int) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Every routed layer's output [B, T, D] and, there, the gradient of the log-probability of drawn next tokens."""
    outputs: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _args, output: outputs.append(output[0]))
        for layer in model.model.layers
        if isinstance(layer, FlexiDepthDecoderLayer)
    ]
    try:
        logits = model(inputs_embeds=entered, first_layer=first, routes="all", use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    likelihood = F.log_softmax(logits.float(), dim=-1).flatten(0, 1)  # [N, V]
    drawn = torch.multinomial(likelihood.detach().exp(), 1)
    return outputs, torch.autograd.grad(likelihood.gather(1, drawn).sum(), outputs)


def cost(factor: Tensor, error: Tensor, output: Tensor) -> Tensor:
    """[..., D] error of one layer's [..., D] output -> [...] approximate cost in nats of KL. factor: [D, D]"""
    return 0.5 * ((error / output.norm(dim=-1, keepdim=True)) @ factor).square().sum(-1)
