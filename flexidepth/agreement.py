"""How far an engine's numbers are from the reference engine's, token by token on given text. Knows engines and token
ids; knows no text and no speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from flexidepth.engines import Engine, PassOutput, choose_engine
from flexidepth.modeling import FlexiDepthForCausalLM


@dataclass(frozen=True)
class Agreement:
    """tokens: that were fed one by one. flips: decisions that differ. farthest_flip: the reference's gate and the
    threshold, at most so far apart where they do. kl: mean nats a token, reference to engine. largest_logit_error,
    same_likeliest: the share of tokens after which both find the same token likeliest.
    """

    engine: str
    about: str
    tokens: int
    decisions: int
    flips: int
    farthest_flip: float
    kl: float
    largest_logit_error: float
    same_likeliest: float


def agreement(
    model: FlexiDepthForCausalLM,
    documents: Sequence[Sequence[int]],
    *,
    engine: str,
    tokens: int,
    report: Callable[[int], object],
) -> Agreement:
    """documents: token ids, of which so many `tokens` are fed in all; every engine decides its own routes. report is
    called with the number of tokens done since. Raises as `choose_engine`.
    """
    threshold = model.config.threshold
    tried = choose_engine(engine, model, routes="learned", threshold=threshold)
    reference = choose_engine("reference", model, routes="learned", threshold=threshold)
    decisions = flips = same = done = 0
    farthest = largest = kl = 0.0
    for document in documents:
        ids = document[: tokens - done]
        if not ids:
            break
        _, expected = reference.prefill(ids, all_logits=True)
        for place, output in _one_by_one(tried, ids):
            wanted = expected.logits[place].cpu().double()
            own = output.logits[-1].cpu().double()
            decided = expected.executed[place].cpu()
            differ = decided != output.executed[-1].cpu()
            decisions += differ.numel()
            flips += int(differ.sum())
            if differ.any():
                farthest = max(farthest, float((expected.gates[place].cpu()[differ] - threshold).abs().max()))
            log_wanted = torch.log_softmax(wanted, -1)
            kl += float((log_wanted.exp() * (log_wanted - torch.log_softmax(own, -1))).sum())
            largest = max(largest, float((wanted - own).abs().max()))
            same += int(wanted.argmax()) == int(own.argmax())
        done += len(ids)
        report(len(ids))
    return Agreement(tried.name, tried.about, done, decisions, flips, farthest, kl / done, largest, same / done)


def _one_by_one(engine: Engine, ids: Sequence[int]) -> Iterator[tuple[int, PassOutput]]:
    """The pass over each token, as generating makes it: not as one over a prompt would."""
    state, output = engine.prefill(ids[:1])
    for place in range(len(ids)):
        if place:
            output = engine.step(state, ids[place])
        yield place, output
