"""The cpu engine as the protocol wants it: tokens in, tensors out. Knows no text and no sampling."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from flexidepth.engines import PassOutput
from flexidepth.engines.cpu import binding
from flexidepth.engines.cpu.weights import pack, reading
from flexidepth.errors import EngineError, UsageError
from flexidepth.modeling import FlexiDepthForCausalLM


class CpuModel:
    """A model made ready once for many runs. precision: see weights.pack. threads: that share a pass, the caller's
    among them. level: instruction set by its number in binding.LEVELS, the best of this machine by default.

    Raises EngineError when it cannot be built here, CheckpointError for weights that are not finite.
    """

    def __init__(
        self,
        model: FlexiDepthForCausalLM,
        *,
        precision: str = "exact",
        threads: int,
        level: int | None = None,
    ) -> None:
        self.library = binding.library()
        self.weights = pack(model, precision)
        self.precision = precision
        self.threads = threads
        self.level = self.library.fdx_best_level() if level is None else level
        packed = self.weights
        self.handle = self.library.fdx_model_new(
            packed.shape,
            packed.layers,
            packed.embedding,
            packed.head,
            packed.norm,
            packed.frequencies,
            threads,
            self.level,
        )
        if not self.handle:
            raise EngineError(f"this machine cannot run the cpu engine at level {self.level}")
        weakref.finalize(self, self.library.fdx_model_free, self.handle)
        self.weight_bytes = packed.bytes

    def bytes_read(self, shares: Sequence[float] | None, positions: float) -> float:
        """See TokenReading."""
        return reading(self.weights).bytes(shares, positions)

    def about(self) -> str:
        weights = f"{self.weights.bytes / 1e6:.0f} MB of weights" + (" in 8 bits" * (self.precision == "int8"))
        return f"{weights}, {binding.LEVELS[self.level]}, {self.threads} thread{'s' * (self.threads > 1)}"


class _Sequence:
    """The keys and values of one run; freed with it."""

    def __init__(self, model: CpuModel) -> None:
        self.model = model  # must outlive its sequences
        self.length = 0
        self.handle = model.library.fdx_sequence_new(model.handle)
        if not self.handle:
            raise EngineError("there is no memory for this run's keys and values")
        weakref.finalize(self, model.library.fdx_sequence_free, self.handle)


class CpuEngine:
    """routes as for the reference engine. routers: whether gates are computed at all; without them routes must be
    "all", and gates read 0: the base model, for timing.
    """

    def __init__(
        self,
        model: CpuModel,
        *,
        name: str = "cpu",
        routes: str | Tensor = "learned",
        threshold: float,
        routers: bool = True,
    ) -> None:
        self.name = name
        self.about = model.about()
        self.model = model
        self.routes = routes
        self.threshold = threshold
        self.routers = routers

    def prefill(self, ids: Sequence[int], *, all_logits: bool = False) -> tuple[_Sequence, PassOutput]:
        state = _Sequence(self.model)
        return state, self._feed(state, ids, len(ids) if all_logits else 1)

    def step(self, state: _Sequence, token_id: int) -> PassOutput:
        return self._feed(state, [token_id], 1)

    def _feed(self, state: _Sequence, ids: Sequence[int], kept: int) -> PassOutput:
        shape = self.model.weights.shape
        tokens = torch.tensor(ids, dtype=torch.int32)
        logits = torch.empty(kept, shape.vocab)
        gates = torch.empty(len(ids), shape.routed)
        executed = torch.empty(len(ids), shape.routed, dtype=torch.bool)
        forced = self._forced(state.length, len(ids), shape.routed)
        routes = binding.Routes(
            None if forced is None else ctypes.cast(forced.data_ptr(), binding.BYTES),
            self.threshold,
            isinstance(self.routes, str) and self.routes == "all",
            self.routers,
        )
        failed = self.model.library.fdx_feed(
            self.model.handle,
            state.handle,
            tokens.data_ptr(),
            len(ids),
            routes,
            logits.data_ptr(),
            kept,
            gates.data_ptr(),
            executed.data_ptr(),
        )
        if failed == 1:
            raise UsageError(
                f"a token is not among the model's {shape.vocab}, or the run is longer than its {shape.positions} "
                "positions: shorten it"
            )
        if failed:
            raise EngineError("there is no memory for this pass")
        state.length += len(ids)
        return PassOutput(logits, gates, executed)

    def _forced(self, seen: int, count: int, routed: int) -> Tensor | None:
        """[count, R] bool, or None when the gates decide."""
        if isinstance(self.routes, str):
            if self.routes == "learned":
                return None
            return torch.full((count, routed), self.routes == "all", dtype=torch.bool)
        if len(self.routes) < seen + count:
            raise UsageError(f"the route tape ends after {len(self.routes)} positions: record a longer run")
        return self.routes[seen : seen + count].contiguous()
