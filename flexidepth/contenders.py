"""What a benchmark can time: our engines under each kind of route, transformers' own loop, llama.cpp on a GGUF file.

Each answers a prompt greedily with a fixed number of tokens and says how long every one took. Knows no statistics.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import CompileConfig, LlamaConfig, LlamaForCausalLM

from flexidepth.engines import choose_engine
from flexidepth.engines.reference import ReferenceEngine
from flexidepth.errors import UsageError
from flexidepth.modeling import FlexiDepthForCausalLM


@dataclass(frozen=True)
class Timed:
    """One answer. first: seconds from the prompt to its first token; steps: seconds of each later token; executed:
    which routed layers ran for each of those, or None where nothing is routed.
    """

    first: float
    steps: list[float]
    executed: list[list[bool]] | None = None


class Contender(Protocol):
    """bytes_read: bytes that a token reads at a context of `positions`, or None where that is not known."""

    name: str
    weight_bytes: int

    def run(self, ids: Sequence[int], tokens: int) -> Timed:
        """Answers `ids` with so many tokens, whatever they are."""

    def bytes_read(self, shares: Sequence[float] | None, positions: float, /) -> float | None: ...


class EngineContender:
    """routes: "vanilla" is the base model without routers; others as `choose_engine` takes them."""

    def __init__(self, name: str, model: FlexiDepthForCausalLM, engine: str, routes: str | Tensor) -> None:
        self.name = name
        vanilla = isinstance(routes, str) and routes == "vanilla"
        chosen: Any = choose_engine(
            engine, model, routes="all" if vanilla else routes, threshold=model.config.threshold
        )
        self.engine = chosen
        self.tuned = not isinstance(self.engine, ReferenceEngine)
        if self.tuned:
            self.engine.routers = not vanilla
        self.weight_bytes = self.engine.model.weight_bytes if self.tuned else _bytes(model)
        self.routed = not vanilla

    def run(self, ids: Sequence[int], tokens: int) -> Timed:
        started = time.perf_counter()
        state, output = self.engine.prefill(ids)
        token = int(output.logits[-1].cpu().numpy().argmax())
        first = time.perf_counter() - started
        steps, executed = [], []
        for _ in range(tokens - 1):
            started = time.perf_counter()
            output = self.engine.step(state, token)
            token = int(output.logits[-1].cpu().numpy().argmax())
            steps.append(time.perf_counter() - started)
            executed.append(output.executed[-1].tolist())
        return Timed(first, steps, executed if self.routed else None)

    def bytes_read(self, shares: Sequence[float] | None, positions: float) -> float | None:
        return self.engine.model.bytes_read(shares, positions) if self.tuned else None


class _Foreign:
    """Runs every layer, by code whose reading is its own affair."""

    def bytes_read(self, _shares: Sequence[float] | None, _positions: float) -> None:
        return None


class TransformersContender(_Foreign):
    """transformers' `generate` on the plain Llama model with the same weights, in bfloat16, its faster type here.
    static: with a static cache, compiled.
    """

    def __init__(self, model: FlexiDepthForCausalLM, *, static: bool = False) -> None:
        self.name = "transformers static" if static else "transformers dynamic"
        self.base: Any = plain_llama(model, torch.bfloat16)
        self.weight_bytes = _bytes(self.base)
        self.settings: dict[str, Any] = {}
        if static:
            compiled: Any = CompileConfig()
            compiled._compile_all_devices = True  # by itself it compiles on GPUs only
            self.settings = {"cache_implementation": "static", "compile_config": compiled}

    def run(self, ids: Sequence[int], tokens: int) -> Timed:
        clock = _Clock()
        self.base.generate(
            torch.tensor([list(ids)], device=self.base.device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.base.device),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            streamer=clock,
            **self.settings,
        )
        first, *later = clock.times
        return Timed(first - clock.started, [b - a for a, b in zip(clock.times, later, strict=False)])


class _Clock:
    """A streamer that keeps when each new token came."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.times: list[float] = []
        self._prompt = True

    def put(self, _: Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class LlamaCppContender(_Foreign):
    """llama.cpp on a GGUF file, as llama-cpp-python builds it. Raises UsageError without that package."""

    def __init__(self, path: Path, *, positions: int, threads: int) -> None:
        try:
            from llama_cpp import Llama
        except ImportError:
            raise UsageError("llama.cpp rows need its package: run pip install llama-cpp-python") from None
        self.name = f"llama.cpp {path.stem}"
        self.weight_bytes = path.stat().st_size
        self.llama = Llama(str(path), n_ctx=positions, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(self, ids: Sequence[int], tokens: int) -> Timed:
        self.llama.reset()
        started = time.perf_counter()
        self.llama.eval(list(ids))
        token = self.llama.sample(temp=0.0)
        first = time.perf_counter() - started
        steps = []
        for _ in range(tokens - 1):
            started = time.perf_counter()
            self.llama.eval([token])
            token = self.llama.sample(temp=0.0)
            steps.append(time.perf_counter() - started)
        return Timed(first, steps)


def plain_llama(model: FlexiDepthForCausalLM, dtype: torch.dtype) -> LlamaForCausalLM:
    """The base model as transformers' own class, with the weights of `model`."""
    known = LlamaConfig().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
    config = LlamaConfig(**{key: value for key, value in model.config.to_dict().items() if key in known})
    with torch.device("meta"):
        base = LlamaForCausalLM(config)
    weights = {key: value for key, value in model.state_dict().items() if ".router" not in key}
    base.load_state_dict(weights, assign=True)
    torch.nn.Module.to(base, dtype)
    base.model.rotary_emb = copy.deepcopy(model.model.rotary_emb)  # not among the weights, and float32 in every type
    base.generation_config.eos_token_id = None
    base.generation_config.pad_token_id = 0
    return base.eval()


def _bytes(model: torch.nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
