"""One loaded model, one visitor at a time: request -> progress of a run.

Knows no page, and keeps nothing of what anybody asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from analysis.turns import Turns
from flexidepth.trace import TokenStep, Trace, TraceHeader, header_line, step_line, summary_line

FLUSH_SECONDS = 0.08  # a browser draws smoothly at a dozen updates a second; more only cost time
LOOK_SECONDS = 0.5  # how often a waiting run says where it stands; between two looks it cannot be cancelled

Start = Callable[..., tuple[TraceHeader, Iterator[TokenStep]]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: `ahead` others before it, or its trace so far with the lines of its file."""

    ahead: int = 0
    trace: Trace | None = None
    lines: tuple[str, ...] = ()


Told = Callable[[Iterator[Progress]], Iterator[Progress]]  # turns what goes wrong into a message


@dataclass(frozen=True)
class Runner:
    """start: checks a request and returns its header and steps, as `flexidepth.generation.start` does."""

    model: Any
    tokenizer: Any
    start: Start
    turns: Turns

    def run(self, prompt: str, settings: dict[str, Any]) -> Generator[Progress, None, None]:
        """Waits for its turn, then yields every FLUSH_SECONDS and once more at the end, with the summary line.

        Closing it stops the model and lets the next run begin. Raises what `start` raises.
        """
        with self.turns.ticket() as ticket:
            while not ticket.wait(LOOK_SECONDS):
                yield Progress(ahead=ticket.ahead())
            header, steps = self.start(self.model, self.tokenizer, prompt, **settings)
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
