"""One answer as it is written: the logits of each pass in, one TokenStep out.

Knows tokens, how they are drawn and when to stop; knows neither who computes a pass nor whether other answers are
written beside this one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth.sampling import Sampler, Sampling
from flexidepth.text_stream import TextStream
from flexidepth.trace import Candidate, TokenStep

_TOP = 5


@dataclass(frozen=True)
class Limits:
    """Where an answer ends. tape: positions of the route tape, when one is replayed."""

    end_tokens: frozenset[int]
    context: int
    tape: int | None = None


class Answer:
    """Draws the tokens of one answer. prompt_tokens: positions before it; first_index: its first token's place."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: list[int],
        sampling: Sampling,
        limits: Limits,
        *,
        always_on: int,
        first_index: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt_tokens = len(prompt)
        self.sampling = sampling
        self.limits = limits
        self.always_on = always_on
        self.first_index = first_index
        self.count = 0
        self._draw = Sampler(sampling)
        self._text = TextStream(tokenizer, prompt)

    def take(self, logits: Tensor, gates: Tensor, executed: Tensor, started: float) -> TokenStep:
        """The next token, drawn from logits [V] of a pass with gates [R] and executed [R]; its `stop` ends the
        answer. started: when that pass began, on time.perf_counter.
        """
        logits = logits.cpu()
        token_id = self._draw(logits)
        stop = self._stop(token_id)
        logprob, entropy, top = distribution(self.tokenizer, logits, token_id)
        ran = tuple(executed.tolist())
        step = TokenStep(
            index=self.first_index + self.count,
            token_id=token_id,
            text=self._text.add(token_id, last=stop is not None),
            is_prompt=False,
            logprob=logprob,
            entropy=entropy,
            top=top,
            gates=tuple(gates.tolist()),
            executed=ran,
            layers_used=self.always_on + sum(ran),
            seconds=time.perf_counter() - started,
            stop=stop,
        )
        self.count += 1
        return step

    def _stop(self, token_id: int) -> str | None:
        position = self.prompt_tokens + self.count  # where this token would be fed back
        if token_id in self.limits.end_tokens:
            return "end_of_turn"
        if self.count + 1 == self.sampling.max_new_tokens:
            return "max_new_tokens"
        if position >= self.limits.context:
            return "context_limit"
        if self.limits.tape is not None and position >= self.limits.tape:
            return "tape_end"
        return None


def distribution(
    tokenizer: PreTrainedTokenizerBase, logits: Tensor, token_id: int
) -> tuple[float, float, tuple[Candidate, ...]]:
    """Log-probability of the token, entropy (both in nats) and the likeliest tokens. logits: [V]

    In NumPy and on one thread: torch would share out so many numbers, and its second thread then spins for
    milliseconds on the core that the next pass needs.
    """
    values = logits.cpu().numpy()
    shifted = values - values.max()
    weights = np.exp(shifted)
    total = weights.sum(dtype=np.float64)
    log_total = np.log(total)
    # -inf marks a token that cannot come; it adds nothing to the entropy.
    entropy = log_total - np.dot(weights, np.maximum(shifted, -1e4)) / total
    likeliest = np.argpartition(-values, min(_TOP, len(values)) - 1)[:_TOP]
    likeliest = likeliest[np.lexsort((likeliest, -values[likeliest]))]
    top = tuple(
        Candidate(
            int(i),
            str(tokenizer.decode([int(i)], clean_up_tokenization_spaces=False)),
            float(shifted[i] - log_total),
        )
        for i in likeliest
    )
    return float(shifted[token_id] - log_total), float(entropy), top
