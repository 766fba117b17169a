"""Several prompts -> their traces, generated side by side. For whoever wants many answers and watches none of them.

Knows requests and answers (generation.py, answer.py); knows neither how a pass is computed nor what prompts are for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth.engines.batched import BatchedReference
from flexidepth.generation import checked
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.sampling import Sampling
from flexidepth.trace import TokenStep, Trace


def generate_batch(
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | Sequence[int] = 0,
    chat: bool = True,
    threshold: float | None = None,
    routes: str = "learned",
) -> list[Trace]:
    """One trace a prompt, in order; settings as for `generation.stream`. seed: one for every prompt, or one each.

    The seconds of a step are those of the pass that all sequences shared. Raises UsageError for a request that cannot
    be carried out.
    """
    seeds = [seed] * len(prompts) if isinstance(seed, int) else seed
    requests = [
        checked(
            model,
            tokenizer,
            prompt,
            sampling=Sampling(max_new_tokens, temperature, top_p, own),
            chat=chat,
            threshold=threshold,
            routes=routes,
        )
        for prompt, own in zip(prompts, seeds, strict=True)
    ]
    if not requests:
        return []
    answers = [request.answer(model, tokenizer) for request in requests]
    steps: list[list[TokenStep]] = [[] for _ in requests]
    engine = BatchedReference(model, routes=routes, threshold=requests[0].threshold)
    going = list(range(len(requests)))
    started = time.perf_counter()
    output = engine.prefill([request.ids for request in requests])
    while True:
        for row, number in enumerate(going):
            step = answers[number].take(output.logits[row], output.gates[row], output.executed[row], started)
            steps[number].append(step)
        kept = [row for row, number in enumerate(going) if steps[number][-1].stop is None]
        if not kept:
            break
        if len(kept) < len(going):
            engine.keep(kept)
            going = [going[row] for row in kept]
        started = time.perf_counter()
        output = engine.step([steps[number][-1].token_id for number in going])
    headers = [request.header(model, engine.name) for request in requests]
    return [Trace(header, tuple(taken)) for header, taken in zip(headers, steps, strict=True)]
