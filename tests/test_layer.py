"""Sampled hard gates: decisions follow the gates, and their gradient is the cost of the decision."""

from __future__ import annotations

import pytest
import torch

from flexidepth.layer import LayerRoute, _straight_through


def test_sampled_decisions_follow_the_gates():
    torch.manual_seed(0)
    gates = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).expand(20_000, 5)
    shares = LayerRoute(0.5, sampled=True).decide(gates).float().mean(0)
    assert shares.tolist() == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.01)
    forced = torch.zeros(20_000, 5, dtype=torch.bool)
    assert not LayerRoute(0.5, forced, sampled=True).decide(gates).any(), "a forced route is no sample"


@pytest.mark.parametrize("gate", [0.1, 0.5, 0.88])
def test_gradient_of_a_sampled_gate_is_the_difference_between_running_and_skipping(gate):
    """For a loss quadratic in the decision, summed over both decisions with their probabilities."""
    mean_gradient = 0.0
    for run in (0.0, 1.0):
        value = torch.tensor([gate], requires_grad=True)
        decision = _straight_through(torch.tensor([run]), value, sampled=True)
        assert decision.item() == run
        (3 * (1 - decision).square() - 0.5 * (1 - decision)).sum().backward()  # skipping costs 3 - 0.5
        mean_gradient += (gate if run else 1 - gate) * value.grad.item()
    assert mean_gradient == pytest.approx(-2.5)


def test_sampling_is_for_training_alone(make_model, ids):
    model = make_model(gate_scaling="hard").train()
    first, second = (model(ids, sampled=True, use_cache=False).executed for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(ids, use_cache=False).executed for _ in range(2))
    assert torch.equal(first, second)
