"""Drawing tokens: the nucleus is the one that transformers cuts, seeds repeat, cold takes the likeliest."""

from __future__ import annotations

import pytest
import torch
from transformers import TopPLogitsWarper

from flexidepth.sampling import Sampler, Sampling, nucleus


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("spread", [0.05, 1.0, 6.0], ids=["flat", "usual", "peaked"])
def test_nucleus_is_that_of_transformers(top_p: float, spread: float) -> None:
    logits = spread * torch.randn(5000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = TopPLogitsWarper(top_p)(torch.empty(1, 0, dtype=torch.long), logits[None])[0]
    kept = nucleus(logits.softmax(-1), top_p)
    assert torch.equal(kept > 0, expected > -torch.inf)
    assert torch.allclose(kept / kept.sum(), expected.softmax(-1))


def test_one_seed_draws_the_same_tokens_and_others_differ() -> None:
    logits = torch.randn(200, generator=torch.Generator().manual_seed(1))

    def drawn(seed: int) -> list[int]:
        draw = Sampler(Sampling(1, 0.8, 0.9, seed))
        return [draw(logits) for _ in range(40)]

    assert drawn(5) == drawn(5) != drawn(6)


@pytest.mark.parametrize("temperature", [0.0, 1e-30])
def test_cold_draws_the_likeliest(temperature: float) -> None:
    logits = torch.randn(200, generator=torch.Generator().manual_seed(1))
    assert Sampler(Sampling(1, temperature, 0.9, 0))(logits) == int(logits.argmax())


def test_draws_follow_the_probabilities() -> None:
    draw = Sampler(Sampling(1, 1.0, 1.0, 0))
    counts = torch.bincount(
        torch.tensor([draw(torch.tensor([0.2, 0.3, 0.5]).log()) for _ in range(4000)]), minlength=3
    )
    assert torch.allclose(counts / 4000, torch.tensor([0.2, 0.3, 0.5]), atol=0.03)
