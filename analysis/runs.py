"""Several models, one visitor at a time: request -> progress of a run.

Knows no page, and keeps nothing of what anybody asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, cast

from analysis.turns import Turns
from flexidepth.trace import TokenStep, Trace, TraceHeader, header_line, step_line, summary_line

FLUSH_SECONDS = (
    0.12  # eight updates a second still flow; more take the time of tokens, where a browser shares the cores
)
LOOK_SECONDS = 0.5  # how often a waiting run says where it stands; between two looks it cannot be cancelled

Start = Callable[..., tuple[TraceHeader, Iterator[TokenStep]]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: `ahead` others before it, its model `loading`, or its trace so far with the lines of its
    file.
    """

    ahead: int = 0
    loading: str = ""
    trace: Trace | None = None
    lines: tuple[str, ...] = ()

    @property
    def waiting(self) -> dict[str, Any]:
        """What a run without a trace waits for, as the views read it."""
        return {"loading": self.loading} if self.loading else {"ahead": self.ahead}


Told = Callable[[Iterator[Progress]], Iterator[Progress]]  # turns what goes wrong into a message


class Models(Protocol):
    """By name; None is the one that the page was started with. See `flexidepth.shelf`."""

    def title(self, name: str | None) -> str: ...

    def is_loaded(self, name: str | None) -> bool: ...

    def take(self, name: str | None) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Runner:
    """start: checks a request and returns its header and steps, as `flexidepth.generation.start` does."""

    models: Models
    start: Start
    turns: Turns

    def run(self, prompt: str, settings: dict[str, Any], model: str | None = None) -> Generator[Progress, None, None]:
        """Waits for its turn, loads the model if need be, then yields every FLUSH_SECONDS and once more at the end,
        with the summary line.

        Closing it stops the work and lets the next run begin, but a model that is being loaded is loaded to its end.
        Raises what `start` and `Models.take` raise.
        """
        with self.turns.ticket() as ticket:
            while not ticket.wait(LOOK_SECONDS):
                yield Progress(ahead=ticket.ahead())
            if not self.models.is_loaded(model):
                yield Progress(loading=self.models.title(model))
            header, steps = self.start(*self.models.take(model), prompt, **settings)
            done: list[TokenStep] = []
            lines = [header_line(header)]
            with closing(cast(Generator[TokenStep, None, None], steps)):
                yield Progress(trace=Trace(header, ()), lines=tuple(lines))
                flushed = time.monotonic()
                try:
                    for step in steps:
                        done.append(step)
                        lines.append(step_line(step))
                        if time.monotonic() - flushed >= FLUSH_SECONDS:
                            yield Progress(trace=Trace(header, tuple(done)), lines=tuple(lines))
                            flushed = time.monotonic()
                except Exception:
                    yield Progress(trace=Trace(header, tuple(done)), lines=tuple(lines))
                    raise
            lines.append(summary_line(header, done))
            yield Progress(trace=Trace(header, tuple(done)), lines=tuple(lines))
