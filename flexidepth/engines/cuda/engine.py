"""The cuda engine as the protocol wants it: tokens in, tensors out. A prompt goes through the reference engine, whose
keys and values the graph then reads. Knows no text and no sampling.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flexidepth.engines import PassOutput
from flexidepth.engines.cuda.graph import TokenGraph
from flexidepth.engines.cuda.memory import LEARNED, Tiles
from flexidepth.engines.reading import LayerReading, TokenReading
from flexidepth.engines.reference import ReferenceEngine
from flexidepth.engines.supported import refuse_unsupported
from flexidepth.errors import CheckpointError, EngineError, UsageError
from flexidepth.layer import FlexiDepthDecoderLayer
from flexidepth.modeling import FlexiDepthForCausalLM

_FIRST_CAPACITY = 2048  # positions; a run that needs more is moved to twice as many
_TRIED = 4  # tokens that a new engine is compared on
# Of the logits' norm. A kernel that is wrong is off by about one; the reference itself, in bfloat16, by up to 0.08.
_MOST_ERROR = {torch.float32: 0.01, torch.float16: 0.3, torch.bfloat16: 0.3}


class CudaModel:
    """A model made ready once for many runs; its weights are read where they are.

    Raises EngineError for a model that the kernels do not compute, CheckpointError for weights that are not finite.
    """

    def __init__(self, model: FlexiDepthForCausalLM, *, tiles: Tiles | None = None) -> None:
        _refuse(model)
        self.model = model
        self.tiles = tiles or Tiles()
        self.folded = [
            layer.router.folded() for layer in model.model.layers if isinstance(layer, FlexiDepthDecoderLayer)
        ]
        self.weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        self._free: list[TokenGraph] = []
        self._compare()

    def about(self) -> str:
        device = self.model.device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "Triton's interpreter"
        return f"{self.weight_bytes / 1e6:.0f} MB of weights, one graph a token, {where}"

    def bytes_read(self, shares: Sequence[float] | None, positions: float) -> float:
        """See TokenReading."""
        return _reading(self.model).bytes(shares, positions)

    def graph(self, positions: int, *, routers: bool) -> TokenGraph:
        """One that no run uses, for at least so many positions. Raises EngineError when there is no memory for it."""
        for graph in self._free:
            if graph.routers == routers and graph.memory.capacity >= positions:
                self._free.remove(graph)
                return graph
        capacity = _FIRST_CAPACITY
        while capacity < positions:
            capacity *= 2
        capacity = min(capacity, self.model.config.max_position_embeddings)
        try:
            return TokenGraph(self.model, self.folded, self.tiles, capacity=capacity, routers=routers)
        except torch.OutOfMemoryError:
            raise EngineError(f"the GPU has no memory for keys and values of {capacity} positions") from None

    def give_back(self, graph: TokenGraph) -> None:
        self._free.append(graph)

    def _compare(self) -> None:
        """Raises EngineError unless the first passes here give the reference's logits: a GPU, driver or compiler that
        nobody tried must not be silently wrong.
        """
        config = self.model.config
        ids = torch.linspace(0, config.vocab_size - 1, _TRIED).long().tolist()
        tape = torch.ones(_TRIED, config.num_routed, dtype=torch.bool)
        tape[1::2, ::2] = False
        tape[2:, 1::2] = False
        engine = CudaEngine(self, routes=tape, threshold=0.5, about="")
        reference = ReferenceEngine(self.model, routes=tape.to(self.model.device), threshold=0.5)
        state, _ = engine.prefill(ids[:1])
        expected_state, _ = reference.prefill(ids[:1])
        for token in ids[1:]:
            found = engine.step(state, token).logits
            expected = reference.step(expected_state, token).logits.cpu()
            error = float((found - expected).norm() / expected.norm())
            if not error <= _MOST_ERROR[self.model.dtype]:
                raise EngineError(f"the cuda engine's logits differ by {error:.1%} from the reference engine's here")


class _Run:
    """The graph that one run uses; given back with it."""

    def __init__(self, model: CudaModel, graph: TokenGraph) -> None:
        self.graph = graph
        self.length = 0  # positions that were fed
        self.guess: int | None = None  # what the device takes for the next token
        self.ahead = False  # the pass over the guess is queued already
        self.guessed_all = True  # a greedy run's tokens are the device's guesses
        self._finalizer = weakref.finalize(self, model.give_back, graph)

    def move(self, model: CudaModel, graph: TokenGraph) -> None:
        """To a graph with more room."""
        old, new = self.graph.memory, graph.memory
        new.keys[:, :, : old.capacity] = old.keys
        new.values[:, :, : old.capacity] = old.values
        self._finalizer()
        self.graph, self.ahead = graph, False
        self._finalizer = weakref.finalize(self, model.give_back, graph)


class CudaEngine:
    """routes and routers as for the cpu engine.

    As long as a run's tokens are those that the device itself finds likeliest, the pass over the next one is queued
    before the host has looked at this one's numbers.
    """

    def __init__(
        self,
        model: CudaModel,
        *,
        routes: str | Tensor = "learned",
        threshold: float,
        routers: bool = True,
        about: str | None = None,
    ) -> None:
        self.name = "cuda"
        self.about = model.about() if about is None else about
        self.model = model
        self.routes = routes
        self.threshold = threshold
        self.routers = routers

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], *, all_logits: bool = False) -> tuple[_Run, PassOutput]:
        self._check(0, ids)
        routes = self.routes if isinstance(self.routes, str) else self.routes.to(self.model.model.device)
        reference = ReferenceEngine(self.model.model, routes=routes, threshold=self.threshold)
        cache, output = reference.prefill(ids, all_logits=all_logits)
        run = _Run(self.model, self.model.graph(len(ids) + 1, routers=self.routers))
        memory = run.graph.memory
        layer: Any
        for index, layer in enumerate(cache.layers):
            memory.keys[index, :, : len(ids)] = layer.keys[0]
            memory.values[index, :, : len(ids)] = layer.values[0]
        self._decide(run.graph)
        run.length = len(ids)
        return run, PassOutput(output.logits.cpu(), output.gates.cpu(), output.executed.cpu())

    @torch.inference_mode()
    def step(self, state: _Run, token_id: int) -> PassOutput:
        self._check(state.length, [token_id])
        if state.length >= state.graph.memory.capacity:
            state.move(self.model, self.model.graph(state.length + 1, routers=self.routers))
            self._decide(state.graph)
        state.guessed_all &= state.guess in (None, token_id)
        if not (state.ahead and token_id == state.guess):
            state.graph.feed(token_id, state.length)
            state.graph.queue()
        report = state.graph.report()
        state.length += 1
        memory = state.graph.memory
        logits, gates, executed, guess = report.split([len(memory.logits), len(memory.gates), len(memory.executed), 1])
        state.guess = int(guess)
        state.ahead = state.guessed_all and state.length < memory.capacity
        if state.ahead:
            state.graph.queue()
        return PassOutput(logits[None], gates[None], executed[None] > 0)

    def _decide(self, graph: TokenGraph) -> None:
        """Tells the device what decides in this run."""
        memory, config = graph.memory, self.model.model.config
        if isinstance(self.routes, str):
            memory.tape.fill_({"learned": LEARNED, "all": 1, "none": 0}[self.routes])
        else:
            memory.tape.fill_(LEARNED)
            tape = self.routes[: memory.capacity]
            memory.tape[: len(tape)] = tape.to(memory.tape.device, memory.tape.dtype)
        memory.threshold.fill_(self.threshold)
        unscaled = isinstance(self.routes, str) and self.routes == "all"
        memory.scaled.fill_(config.gate_scaling == "scaled" and not unscaled)
        memory.report.zero_()

    def _check(self, seen: int, ids: Sequence[int]) -> None:
        config = self.model.model.config
        positions, vocab = config.max_position_embeddings, config.vocab_size
        if seen + len(ids) > positions or not all(0 <= token < vocab for token in ids):
            raise UsageError(
                f"a token is not among the model's {vocab}, or the run is longer than its {positions} positions: "
                "shorten it"
            )
        if not isinstance(self.routes, str) and len(self.routes) < seen + len(ids):
            raise UsageError(f"the route tape ends after {len(self.routes)} positions: record a longer run")


def _reading(model: FlexiDepthForCausalLM) -> TokenReading:
    config: Any = model.config
    layers = []
    for layer in model.model.layers:
        attention: Any = layer.self_attn
        always = _bytes(attention.k_proj, attention.v_proj)
        run = _bytes(attention.q_proj, attention.o_proj, layer.mlp)
        if isinstance(layer, FlexiDepthDecoderLayer):
            layers.append(LayerReading(always, run, _bytes(layer.router.router_enc), _bytes(layer.router_proj)))
        else:
            layers.append(LayerReading(always, run))
    position = 2 * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    return TokenReading(layers, _bytes(model.lm_head), position)


def _bytes(*modules: torch.nn.Module) -> float:
    return float(sum(p.numel() * p.element_size() for module in modules for p in module.parameters()))


def _refuse(model: FlexiDepthForCausalLM) -> None:
    config = model.config
    refuse_unsupported(config, "cuda")
    if model.dtype not in _MOST_ERROR:
        raise EngineError(f"the cuda engine has no weights of type {model.dtype}")
    if len({parameter.device for parameter in model.parameters()}) > 1:
        raise EngineError("the cuda engine needs the whole model on one GPU")
    with torch.device("meta"):
        shapes = {name: list(parameter.shape) for name, parameter in type(model)(config).named_parameters()}
    for name, parameter in model.named_parameters():
        if shapes.get(name) != list(parameter.shape):  # the kernels trust the configuration
            raise CheckpointError(f"{name} is {list(parameter.shape)}, the configuration says {shapes.get(name)}")
        if name.endswith(".bias"):
            raise EngineError("the cuda engine has no biases")
        if not bool(torch.isfinite(parameter).all()):
            raise CheckpointError(f"{name} is not finite: the checkpoint is broken")
        if not parameter.is_contiguous():
            raise EngineError(f"{name} is not contiguous in memory")
