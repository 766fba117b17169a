"""Runs on a ZeroGPU Space, where a GPU is lent for the length of one function call, in a forked process.

The fork inherits the models; what it is given and what it yields is pickled, so both are plain values. It inherits no
threads: whatever needs some, an engine above all, is made inside. Knows the `spaces` package and what a run is made
of; knows neither the page nor how a token is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flexidepth import errors
from flexidepth.trace import TokenStep, TraceHeader

START_SECONDS = 15  # to hand over the GPU, move the weights and read the prompt
TOKEN_SECONDS = 0.1

Start = Callable[..., tuple[TraceHeader, Iterator[TokenStep]]]


@dataclass(frozen=True)
class Failure:
    """An error as it leaves the fork: `spaces` would print its traceback and keep only its type's name."""

    kind: str  # one of flexidepth.errors, or empty
    message: str


def lend(environment: Mapping[str, str]) -> Any | None:
    """The `spaces` package on a ZeroGPU Space, None elsewhere. Call it before anything touches CUDA, which the package
    wants to see first. Raises UsageError on a ZeroGPU Space that lacks it.
    """
    if environment.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
        return None
    try:
        import spaces
    except ImportError:
        raise errors.UsageError("this ZeroGPU Space lacks the spaces package: add it to requirements.txt") from None
    return spaces


def lent_start(spaces: Any, models: Mapping[str, tuple[Any, Any]], start: Start) -> Start:
    """`start`, as `flexidepth.generation.start` is, with a GPU for each of its runs. models: those that it will be
    called with, by their `name_or_path`; make it before the page is launched.
    """

    def run(
        name: str, prompt: str, settings: dict[str, Any]
    ) -> Generator[TraceHeader | TokenStep | Failure, None, None]:
        import torch  # not above: `spaces` wants to come first

        torch.set_num_threads(1)  # the threads of the process before the fork are gone, and waiting for them hangs
        try:
            header, steps = start(*models[name], prompt, **settings)
            yield header
            yield from steps
        except errors.FlexiDepthError as error:
            yield Failure(type(error).__name__, str(error))
        except Exception as error:
            yield Failure("", type(error).__name__)

    lent = spaces.GPU(run, duration=seconds)

    def lent_run(model: Any, _tokenizer: Any, prompt: str, **settings: Any) -> tuple[TraceHeader, Iterator[TokenStep]]:
        pieces = lent(str(model.name_or_path), prompt, settings)
        header = next(pieces)
        _raise(header)
        return header, _steps(pieces)

    return lent_run


def seconds(_name: str, _prompt: str, settings: Mapping[str, Any]) -> float:
    """How long the GPU is asked for, by a run's arguments: the less, the sooner it is lent."""
    return START_SECONDS + TOKEN_SECONDS * float(settings["max_new_tokens"])


def _steps(pieces: Generator[Any, None, None]) -> Iterator[TokenStep]:
    try:
        for piece in pieces:
            _raise(piece)
            yield piece
    finally:
        pieces.close()


def _raise(piece: Any) -> None:
    if isinstance(piece, Failure):
        raise getattr(errors, piece.kind, RuntimeError)(piece.message)
