"""What executes a step. One protocol, chosen by name; who asks for tokens never learns which engine computed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from flexidepth.errors import EngineError, FlexiDepthError, UsageError


@dataclass(frozen=True)
class PassOutput:
    """One forward pass over T positions of one sequence."""

    logits: Tensor  # [T or 1, V] float32; all positions only when asked for
    gates: Tensor  # [T, R] float32
    executed: Tensor  # [T, R] bool


class Engine(Protocol):
    """Runs one sequence at a time. `state` is the engine's own and belongs to one run. about: what it is made of, or
    why no faster one was taken.
    """

    name: str
    about: str

    def prefill(self, ids: Sequence[int], *, all_logits: bool = False) -> tuple[Any, PassOutput]:
        """Starts a run with its prompt."""

    def step(self, state: Any, token_id: int) -> PassOutput:
        """Feeds one more token to the run; the logits are those of the token after it."""


ENGINES = ("cuda", "cpu", "cpu-int8", "reference")
_MOST_THREADS = 8  # more do not read memory faster, and wait for each other longer


def choose_engine(name: str, model: Any, *, routes: Any, threshold: float) -> Engine:
    """The engine called `name`; "auto" takes the fastest that computes this model exactly here, and its `about` says
    which and why. Raises UsageError for an unknown name, EngineError when the named one cannot run here.
    """
    if name not in ("auto", *ENGINES):
        raise UsageError(f"engine {name!r} is unknown: use auto or {', '.join(ENGINES)}")
    about = "as asked"
    if name != "reference":
        try:
            if name == "cuda" or (name == "auto" and model.device.type == "cuda"):
                return _cuda(model, routes, threshold)
            return _cpu("cpu" if name == "auto" else name, model, routes, threshold)
        except EngineError as error:
            if name != "auto":
                raise
            about = str(error)
    from flexidepth.engines.reference import ReferenceEngine

    return ReferenceEngine(model, routes=routes, threshold=threshold, about=about)


def make_ready(name: str, model: Any) -> str:
    """Builds the engine called `name` ahead of the first run. Returns its name and what it is made of, in one line.
    Raises as `choose_engine`.
    """
    engine = choose_engine(name, model, routes="learned", threshold=model.config.threshold)
    return f"{engine.name} ({engine.about})"


def _cpu(name: str, model: Any, routes: Any, threshold: float) -> Engine:
    from flexidepth.engines.cpu.engine import CpuEngine, CpuModel

    def make() -> CpuModel:
        if any(parameter.device.type != "cpu" for parameter in model.parameters()):
            raise EngineError("the cpu engine needs the whole model in this machine's memory")
        precision = "int8" if name == "cpu-int8" else "exact"
        return CpuModel(model, precision=precision, threads=min(_MOST_THREADS, torch.get_num_threads()))

    return CpuEngine(_made_ready(model, name, make), name=name, routes=routes, threshold=threshold)


def _cuda(model: Any, routes: Any, threshold: float) -> Engine:
    try:
        from flexidepth.engines.cuda.engine import CudaEngine, CudaModel
    except ImportError:
        raise EngineError("the cuda engine needs Triton: run pip install triton") from None

    def make() -> CudaModel:
        if any(parameter.device.type != "cuda" for parameter in model.parameters()):
            raise EngineError("the cuda engine needs the whole model on one GPU")
        try:
            return CudaModel(model)
        except FlexiDepthError:
            raise
        except Exception as error:  # whatever Triton, its compiler and the driver raise
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise EngineError(f"the cuda engine cannot be built here ({type(error).__name__}: {reason})") from error

    return CudaEngine(_made_ready(model, "cuda", make), routes=routes, threshold=threshold)


def _made_ready(model: Any, name: str, make: Callable[[], Any]) -> Any:
    """What `make` returned, or the EngineError it raised, the last time for these weights. Kept on the model, so that
    it lives as long; a weight that changes, as in training, makes it anew.
    """
    kept: _Ready = vars(model).setdefault("_made_ready", _Ready())
    weights = tuple((parameter.data_ptr(), _version(parameter)) for parameter in model.parameters())
    if name not in kept or kept[name][0] != weights:
        try:
            kept[name] = (weights, make())
        except EngineError as error:
            kept[name] = (weights, error)
    made = kept[name][1]
    if isinstance(made, EngineError):
        raise made
    return made


class _Ready(dict[str, tuple[Any, Any]]):
    """What was made for one model, by engine; a copy of the model starts without."""

    def __deepcopy__(self, _: Any) -> _Ready:
        return _Ready()

    def __reduce__(self) -> tuple[type[_Ready], tuple[()]]:
        return _Ready, ()


def _version(parameter: Tensor) -> int:
    """How often it was written to; a tensor made in inference mode does not count."""
    return 0 if parameter.is_inference() else parameter._version
