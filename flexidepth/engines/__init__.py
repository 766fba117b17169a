"""What executes a step. One protocol, chosen by name; who asks for tokens never learns which engine computed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from flexidepth.errors import UsageError


@dataclass(frozen=True)
class PassOutput:
    """One forward pass over T positions of one sequence."""

    logits: Tensor  # [T or 1, V] float32; all positions only when asked for
    gates: Tensor  # [T, R] float32
    executed: Tensor  # [T, R] bool


class Engine(Protocol):
    """Runs one sequence at a time. `state` is the engine's own and belongs to one run."""

    name: str

    def prefill(self, ids: Sequence[int], *, all_logits: bool = False) -> tuple[Any, PassOutput]:
        """Starts a run with its prompt."""

    def step(self, state: Any, token_id: int) -> PassOutput:
        """Feeds one more token to the run; the logits are those of the token after it."""


def choose_engine(name: str, model: Any, *, routes: Any, threshold: float | None) -> Engine:
    """The engine called `name`; "auto" takes the fastest that works here. Raises UsageError for an unknown name."""
    from flexidepth.engines.reference import ReferenceEngine

    available: dict[str, Callable[..., Engine]] = {ReferenceEngine.name: ReferenceEngine}
    if name != "auto" and name not in available:
        raise UsageError(f"engine {name!r} is unknown: use auto or {', '.join(available)}")
    return available[ReferenceEngine.name if name == "auto" else name](model, routes=routes, threshold=threshold)
