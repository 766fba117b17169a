"""One run, token by token: the values every other part reads. Values only: knows no torch, no model and no page.

A trace file is JSON lines: a header `{"trace": {...}}`, one line a token, a last line `{"summary": {...}}`. The page
receives exactly these lines while they are made, so a saved file and a live run are the same thing.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from flexidepth.errors import TraceError

TRACE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One entry of a step's most likely tokens."""

    token_id: int
    text: str
    logprob: float  # natural logarithm


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One token and the forward pass that produced it.

    A generated token's pass had the token before it as input. A prompt token was not produced by a pass: its gates are
    those of its own position, and `logprob`, `entropy` and `top` describe what the model expected in its place
    (`None` and empty for the first one, which nothing predicts).
    """

    index: int  # place in the run, prompt tokens included when they are asked for
    token_id: int
    text: str  # the characters this token completed; empty while a multi-byte character is unfinished
    is_prompt: bool
    logprob: float | None  # nats, of the distribution that the token was drawn from before temperature
    entropy: float | None  # nats
    top: tuple[Candidate, ...]  # most likely first
    gates: tuple[float, ...]  # [R], a value in 0..1 per routed layer
    executed: tuple[bool, ...]  # [R]
    layers_used: int  # always-on layers + executed routed layers
    seconds: float  # wall-clock of this step
    stop: str | None = None  # on the last token: end_of_turn | max_new_tokens | context_limit | tape_end

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        values = _known(cls, data)
        values["top"] = tuple(Candidate(**_known(Candidate, candidate)) for candidate in values["top"])
        values["gates"] = tuple(float(gate) for gate in values["gates"])
        values["executed"] = tuple(bool(run) for run in values["executed"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """What produced a run: enough to repeat it, and to draw it without the model."""

    run_id: str
    model: str  # the name or path it was loaded from
    checkpoint: str  # fingerprint of router and adapter weights
    num_layers: int
    routed_layers: tuple[int, ...]  # 0-based
    threshold: float
    gate_scaling: str  # scaled | hard
    routes: str  # learned | all | none | tape
    engine: str
    dtype: str
    seed: int
    temperature: float
    top_p: float
    max_new_tokens: int
    chat: bool
    prompt: str
    versions: dict[str, str] = field(default_factory=dict)
    version: int = TRACE_VERSION

    @property
    def always_on(self) -> int:
        """Layers without a router: the least that any token can use."""
        return self.num_layers - len(self.routed_layers)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        if data.get("version") != TRACE_VERSION:
            raise TraceError(f"trace version {data.get('version')!r} is not {TRACE_VERSION}: record the run again")
        values = _known(cls, data)
        values["routed_layers"] = tuple(int(layer) for layer in values["routed_layers"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Trace:
    """A finished run: the header and its steps in order."""

    header: TraceHeader
    steps: tuple[TokenStep, ...]

    @property
    def generated(self) -> tuple[TokenStep, ...]:
        return tuple(step for step in self.steps if not step.is_prompt)

    @property
    def text(self) -> str:
        """The answer, whole."""
        return "".join(step.text for step in self.generated)

    def summary(self) -> dict[str, Any]:
        return summarize(self.header, self.steps)

    def to_lines(self) -> Iterator[str]:
        yield header_line(self.header)
        for step in self.steps:
            yield step_line(step)
        yield summary_line(self.header, self.steps)

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> Self:
        """Reads what `to_lines` wrote. Raises TraceError, with the line's number, on anything else."""
        header: TraceHeader | None = None
        steps: list[TokenStep] = []
        finished = False
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
                if "trace" in data:
                    header = TraceHeader.from_dict(data["trace"])
                elif "summary" in data:
                    finished = True
                else:
                    steps.append(TokenStep.from_dict(data))
            except TraceError:
                raise
            except (TypeError, ValueError, KeyError) as error:
                raise TraceError(f"line {number} is not a line of a trace ({error}): record the run again") from None
        if header is None:
            raise TraceError("no trace header found: the first line must be a trace header")
        if not finished:
            raise TraceError("the trace ends before its summary line: the file was cut off; record the run again")
        for step in steps:
            if not len(step.gates) == len(step.executed) == len(header.routed_layers):
                raise TraceError(f"token {step.index} does not have {len(header.routed_layers)} gates: not one run")
        return cls(header, tuple(steps))


def header_line(header: TraceHeader) -> str:
    return _line({"trace": header.to_dict()})


def step_line(step: TokenStep) -> str:
    return _line(step.to_dict())


def summary_line(header: TraceHeader, steps: Iterable[TokenStep]) -> str:
    return _line({"summary": summarize(header, steps)})


def summarize(header: TraceHeader, steps: Iterable[TokenStep]) -> dict[str, Any]:
    """Numbers of a run over its generated tokens; `None` where there is nothing to take a mean of."""
    steps = tuple(steps)
    generated = [step for step in steps if not step.is_prompt]
    depths = [step.layers_used for step in generated]
    seconds = sum(step.seconds for step in generated)
    # The first step also pays for the prompt, so the rate is that of the steps after it.
    decoding = sum(step.seconds for step in generated[1:])
    return {
        "tokens": len(generated),
        "prompt_tokens": sum(step.is_prompt for step in steps),
        "mean_layers_used": statistics.fmean(depths) if depths else None,
        "std_layers_used": statistics.pstdev(depths) if depths else None,
        "num_layers": header.num_layers,
        "always_on": header.always_on,
        "per_layer_usage": per_layer_usage(header, generated),
        "seconds": seconds,
        "first_token_seconds": generated[0].seconds if generated else None,
        "tokens_per_second": (len(generated) - 1) / decoding if decoding > 0 else None,
        "stop": generated[-1].stop if generated else None,
    }


def per_layer_usage(header: TraceHeader, steps: Iterable[TokenStep]) -> list[float | None]:
    """[L] share of the steps that each layer processed; 1.0 for always-on layers, `None` throughout without steps."""
    counts = [0] * len(header.routed_layers)
    total = 0
    for step in steps:
        total += 1
        for routed, run in enumerate(step.executed):
            counts[routed] += run
    usage: list[float | None] = [1.0 if total else None] * header.num_layers
    if total:
        for layer, count in zip(header.routed_layers, counts, strict=True):
            usage[layer] = count / total
    return usage


def _known(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    """The entries of `data` that `cls` has: a newer writer may add fields, which an older reader leaves alone."""
    return {f.name: data[f.name] for f in fields(cls) if f.name in data}


def _line(data: dict[str, Any]) -> str:
    return json.dumps(finite(data), separators=(",", ":"))


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: both become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
