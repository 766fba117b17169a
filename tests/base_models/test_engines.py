"""The cpu engine on the bundled model itself: the same logits and decisions as the reference engine's."""

from __future__ import annotations

import pytest
import torch

import flexidepth
from flexidepth.engines import choose_engine
from tests.conftest import needs_compiler

pytestmark = [pytest.mark.slow, needs_compiler]
PROMPT = "Write a short story about the sea."


@pytest.fixture(scope="module")
def loaded():
    return flexidepth.load("smollm2-135m")


def test_a_story_of_256_tokens_has_the_references_logits_and_routes(loaded) -> None:
    model, tokenizer = loaded
    trace = flexidepth.generate(model, tokenizer, PROMPT, max_new_tokens=256, include_prompt=True)
    assert trace.header.engine == "cpu"
    ids = [step.token_id for step in trace.steps]
    cpu, reference = (
        choose_engine(name, model, routes="learned", threshold=model.config.threshold).prefill(ids, all_logits=True)[1]
        for name in ("cpu", "reference")
    )
    torch.testing.assert_close(cpu.logits, reference.logits, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(cpu.gates, reference.gates, atol=1e-3, rtol=0)
    flipped = cpu.executed != reference.executed
    assert flipped.float().mean() <= 1e-3
    assert bool(((reference.gates - model.config.threshold).abs()[flipped] < 0.01).all())
    # A generated token's flags are those of the pass that produced it: the position before.
    recorded = [step.executed for step in trace.generated]
    start = len(ids) - len(recorded) - 1
    assert recorded == [tuple(row) for row in cpu.executed[start:-1].tolist()]


def test_eight_bits_stay_close_to_the_model(loaded) -> None:
    model, tokenizer = loaded
    ids = tokenizer(PROMPT * 20)["input_ids"]
    logits = [
        choose_engine(name, model, routes="learned", threshold=model.config.threshold)
        .prefill(ids, all_logits=True)[1]
        .logits.log_softmax(-1)
        for name in ("cpu", "cpu-int8")
    ]
    divergence = (logits[0].exp() * (logits[0] - logits[1])).sum(-1).mean()
    assert 0 < divergence < 0.05
