"""Measured skip costs against the same costs one at a time, and routers that tell cheap tokens from dear ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from flexidepth.skip_costs import fit_routers, measure
from flexidepth.warm_start import routed


def test_a_cost_is_the_divergence_of_that_skip_at_that_token(make_model):
    torch.manual_seed(0)
    model = make_model(gate_scaling="hard", num_hidden_layers=6, routed_layers=[2, 4, 5])
    ids = torch.randint(0, 256, (1, 1))  # a single token: no other token's skip can reach it
    costs = measure(model, [ids] * 12)
    for layer, normed, nats in zip(costs.layer, costs.normed, costs.nats, strict=True):
        tape = torch.ones(1, 1, 3, dtype=torch.bool)
        tape[..., layer] = False
        with torch.inference_mode():
            skipping = model(ids, routes=tape, output_hidden_states=True)
            base = model(ids, routes="all").logits
        expected = F.kl_div(skipping.logits.log_softmax(-1), base.log_softmax(-1), log_target=True, reduction="sum")
        assert nats.item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-6)
        index = model.config.routed_layers[layer]
        entered = model.model.layers[index].input_layernorm(skipping.hidden_states[index])[0, 0]
        torch.testing.assert_close(normed.float(), entered, atol=2e-2, rtol=2e-2)


def test_routers_start_at_the_wanted_depth_and_rank_by_cost(make_model):
    torch.manual_seed(0)
    model = make_model(gate_scaling="hard", num_hidden_layers=6, routed_layers=[2, 4, 5])
    costs = measure(model, list(torch.randint(0, 256, (60, 8, 16))))
    price = fit_routers(model, costs, skipped=1.2)
    assert price > 0
    skipping, cheap, dear = 0.0, [], []
    for number, layer in enumerate(routed(model)):
        normed, nats = costs.of(number)
        with torch.inference_mode():
            gates = layer.router(normed)
        skipping += (gates <= 0.5).float().mean().item()
        cheap.append(nats[gates <= 0.5])
        dear.append(nats[gates > 0.5])
    assert skipping == pytest.approx(1.2, abs=0.5), "a tiny router fits its prices roughly"
    assert torch.cat(cheap).mean() < 0.7 * torch.cat(dear).mean()
