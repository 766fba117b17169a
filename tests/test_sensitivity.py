"""The approximate cost of an error against the KL divergence that the error causes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from flexidepth.sensitivity import cost, sensitivities


def test_cost_is_the_divergence_that_a_small_error_causes(make_model):
    torch.manual_seed(0)
    model = make_model(num_hidden_layers=4, routed_layers=[1, 3])
    batches = list(torch.randint(0, 256, (40, 8, 16)))
    factors = sensitivities(model, batches)
    assert factors.shape == (2, 32, 32)
    ids = batches[0]
    with torch.no_grad():
        clean = model(ids, routes="all", output_hidden_states=True, use_cache=False)
        base = F.log_softmax(clean.logits, -1)
        output = clean.hidden_states[2]  # after layer 1
        error = 0.05 * output.norm(dim=-1, keepdim=True) * F.normalize(torch.randn_like(output), dim=-1)
        moved = model(inputs_embeds=output + error, first_layer=2, routes="all", use_cache=False).logits
        divergence = F.kl_div(F.log_softmax(moved, -1), base, log_target=True, reduction="none").sum(-1)
        estimate = cost(factors[0], error, output)
    ratio = (estimate.mean() / divergence.mean()).item()
    assert 0.5 < ratio < 2.0, "right in the mean over tokens; a token's own sensitivity is not known"
