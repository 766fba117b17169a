"""Text in, token steps out: checks a request, runs an engine and yields one TokenStep a token.

Knows neither how a pass is computed (engines/) nor how its token is drawn (answer.py) nor who looks at it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth.answer import Answer, Limits, distribution
from flexidepth.checkpoint import trained_fingerprint
from flexidepth.engines import Engine, PassOutput, choose_engine
from flexidepth.errors import UsageError
from flexidepth.modeling import ROUTES, FlexiDepthForCausalLM
from flexidepth.sampling import Sampling
from flexidepth.text_stream import TextStream
from flexidepth.trace import TokenStep, Trace, TraceHeader

Routes = str | Tensor | Sequence[bool] | Sequence[Sequence[bool]]


def stream(
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    chat: bool = True,
    threshold: float | None = None,
    routes: Routes = "learned",
    engine: str = "auto",
    include_prompt: bool = False,
) -> Iterator[TokenStep]:
    """Generated tokens, one at a time; closing the iterator stops the work.

    chat: wrap the prompt in the tokenizer's chat template. threshold: overrides the checkpoint's for this run. routes:
    "learned", "all", "none", a mask [R] for every token alike, or a route tape (see `route_tape`). include_prompt:
    yield the prompt's tokens first. Raises UsageError, before any work, for a request that cannot be
    carried out.
    """
    _, steps = start(
        model,
        tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        chat=chat,
        threshold=threshold,
        routes=routes,
        engine=engine,
        include_prompt=include_prompt,
    )
    return steps


def generate(model: FlexiDepthForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str, **settings: Any) -> Trace:
    """The whole run at once; settings as for `stream`."""
    header, steps = start(model, tokenizer, prompt, **settings)
    return Trace(header, tuple(steps))


def start(
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    chat: bool = True,
    threshold: float | None = None,
    routes: Routes = "learned",
    engine: str = "auto",
    include_prompt: bool = False,
) -> tuple[TraceHeader, Iterator[TokenStep]]:
    """Checks a request and returns its header, known before the first token, and its steps. Settings as for
    `stream`.
    """
    request = checked(
        model,
        tokenizer,
        prompt,
        sampling=Sampling(max_new_tokens, temperature, top_p, seed),
        chat=chat,
        threshold=threshold,
        routes=routes,
    )
    runner = choose_engine(engine, model, routes=request.routes, threshold=request.threshold)
    return request.header(model, runner.name), _steps(runner, model, tokenizer, request, include_prompt)


@dataclass(frozen=True)
class Request:
    """A request that can be carried out. routes: a name, or a route tape [S, R]."""

    prompt: str
    ids: list[int]
    sampling: Sampling
    chat: bool
    threshold: float
    routes: str | Tensor

    def header(self, model: FlexiDepthForCausalLM, engine: str) -> TraceHeader:
        return TraceHeader(
            run_id=uuid.uuid4().hex[:12],
            model=str(model.name_or_path),
            checkpoint=trained_fingerprint(model),
            num_layers=model.config.num_hidden_layers,
            routed_layers=tuple(model.config.routed_layers or ()),
            threshold=self.threshold,
            gate_scaling=str(model.config.gate_scaling),
            routes=self.routes if isinstance(self.routes, str) else "tape",
            engine=engine,
            dtype=str(model.dtype).removeprefix("torch."),
            seed=self.sampling.seed,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_new_tokens=self.sampling.max_new_tokens,
            chat=self.chat,
            prompt=self.prompt,
            versions={package: version(package) for package in ("torch", "transformers")},
        )

    def answer(
        self, model: FlexiDepthForCausalLM, tokenizer: PreTrainedTokenizerBase, *, first_index: int = 0
    ) -> Answer:
        """The answer to this request, not a token of it drawn yet."""
        tape = None if isinstance(self.routes, str) else len(self.routes)
        return Answer(
            tokenizer,
            self.ids,
            self.sampling,
            Limits(_end_tokens(model, tokenizer), model.config.max_position_embeddings, tape),
            always_on=model.config.always_on,
            first_index=first_index,
        )


def checked(
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    sampling: Sampling,
    chat: bool,
    threshold: float | None,
    routes: Routes,
) -> Request:
    """Raises UsageError for a request that cannot be carried out."""
    sampling.check(context=model.config.max_position_embeddings)
    limit = model.config.threshold if threshold is None else threshold
    if not 0.0 <= limit <= 1.0:  # also false for NaN
        raise UsageError(f"threshold must lie between 0 and 1, not {limit}")
    tape = _checked_routes(routes, model)
    ids = prompt_ids(tokenizer, prompt, chat=chat, context=model.config.max_position_embeddings)
    if isinstance(tape, Tensor) and len(tape) < len(ids):
        raise UsageError(
            f"the route tape has {len(tape)} positions, the prompt {len(ids)}: record it with this prompt"
        )
    return Request(prompt, ids, sampling, chat, limit, tape)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, *, chat: bool, context: int) -> list[int]:
    """Token ids of a prompt, in the chat template or as it is. Raises UsageError when it is empty, broken or too
    long.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty: write something for the model to answer")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the prompt is not valid text at character {error.start + 1}: save it as UTF-8") from None
    if chat:
        if tokenizer.chat_template is None:
            raise UsageError("this model has no chat template: turn the chat setting off (--raw)")
        messages = [{"role": "user", "content": prompt}]
        encoded: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        ids = encoded["input_ids"]
    else:
        ids = tokenizer(prompt)["input_ids"]
    if not ids:
        raise UsageError("the prompt holds only characters that this model cannot read: write it in words")
    if len(ids) >= context:
        raise UsageError(f"the prompt has {len(ids)} tokens, the model reads {context - 1} at most: shorten it")
    return list(ids)


def route_tape(steps: Sequence[TokenStep]) -> list[tuple[bool, ...]]:
    """The executed flags of a run recorded with `include_prompt`, position by position: the tape that repeats it.

    The first generated token was produced by the pass over the last prompt position, so its flags are there already.
    """
    prompt = [step.executed for step in steps if step.is_prompt]
    if not prompt:
        raise UsageError("a route tape needs the prompt's routes: record the run with include_prompt=True")
    return prompt + [step.executed for step in steps if not step.is_prompt][1:]


def _checked_routes(routes: Routes, model: FlexiDepthForCausalLM) -> str | Tensor:
    if isinstance(routes, str):
        if routes not in ROUTES:
            raise UsageError(f"routes must be one of {', '.join(ROUTES)} or a route tape, not {routes!r}")
        return routes
    tape = torch.as_tensor(routes)  # [S, R]
    routed = model.config.num_routed
    if tape.dim() == 1:  # a static mask [R]: the same layers for every token
        tape = tape.expand(model.config.max_position_embeddings, -1)
    if tape.dtype != torch.bool or tape.dim() != 2 or tape.shape[1] != routed:
        raise UsageError(f"a route tape needs {routed} true or false flags a position, not {list(tape.shape)}")
    return tape


def _steps(
    engine: Engine,
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    request: Request,
    include_prompt: bool,
) -> Iterator[TokenStep]:
    answer = request.answer(model, tokenizer, first_index=len(request.ids) if include_prompt else 0)
    started = time.perf_counter()
    state, output = engine.prefill(request.ids, all_logits=include_prompt)
    if include_prompt:
        passed = time.perf_counter() - started
        yield from _prompt_steps(tokenizer, request.ids, output, model.config.always_on, passed)
    while True:
        step = answer.take(output.logits[-1], output.gates[-1], output.executed[-1], started)
        yield step
        if step.stop is not None:
            return
        started = time.perf_counter()
        output = engine.step(state, step.token_id)


def _prompt_steps(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], output: PassOutput, always_on: int, seconds: float
) -> Iterator[TokenStep]:
    """The prompt's tokens with their own positions' routes; each probability comes from the position before."""
    text = TextStream(tokenizer, [], skip_special_tokens=False)
    for index, token_id in enumerate(ids):
        logprob, entropy, top = (
            distribution(tokenizer, output.logits[index - 1], token_id) if index else (None, None, ())
        )
        executed = tuple(output.executed[index].tolist())
        yield TokenStep(
            index=index,
            token_id=token_id,
            text=text.add(token_id, last=index == len(ids) - 1),
            is_prompt=True,
            logprob=logprob,
            entropy=entropy,
            top=top,
            gates=tuple(output.gates[index].tolist()),
            executed=executed,
            layers_used=always_on + sum(executed),
            seconds=seconds / len(ids),
        )


def _end_tokens(model: FlexiDepthForCausalLM, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)
