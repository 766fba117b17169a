"""Settings of a training run as one value, each field with its help text. Loads no torch, so that --help is
instant.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from flexidepth.errors import UsageError

OBJECTIVES = ("distill", "lm")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that a training run depends on; stored with its result. Raises UsageError on values out of range."""

    out: str = field(metadata={"help": "directory for the checkpoint; resumable state goes to its folder state"})
    base: str = _setting("smollm2-135m", "base model: bundled name, directory or Hub id")
    data: str = _setting(
        "sharegpt",
        "conversations: .jsonl, .json, a dataset (directory or Hub id), sharegpt, or several with commas between",
    )
    start_from: str | None = _setting(None, "checkpoint whose adapters to start from, in place of the regression")
    keep_routers: bool = _setting(False, "take the routers of --start-from too: a second stage")
    routed_layers: tuple[int, ...] | None = _setting(None, "0-based layers that get a router; the later half")
    router_reduction_factor: int = _setting(16, "hidden size / router width")
    adapter_reduction_factor: int = _setting(16, "FFN width / adapter width")
    gate_scaling: str = _setting("scaled", "scaled (FFN by g, adapter by 1 - g) or hard (straight-through)")
    router_order: str = _setting("norm-tanh", "norm-tanh (released code) or tanh-norm (the paper's formula)")
    sampled_gates: bool = _setting(False, "draw hard gates with their values as probabilities while training")
    objective: str = _setting("distill", "distill (KL to the frozen base model) or lm (next-token loss)")
    skip_penalty: float = _setting(5e-4, "alpha, the weight of the squared sum of gates")
    rescale_penalty: bool = _setting(
        True,
        "take alpha as meant for the paper's 16 routed layers: R of them get 16 / R of it, the same push on each gate",
    )
    target_depth: float | None = _setting(
        None, "mean layers used that alpha adapts to, beginning at --skip-penalty; without it alpha ramps up and stays"
    )
    penalty_ramp: float = _setting(0.2, "share of the steps in which alpha rises, without a target depth")
    kl_fraction: float = _setting(0.25, "share of positions whose distributions are compared")
    steps: int = _setting(600, "optimizer steps of the joint stage")
    batch_rows: int = _setting(4, "rows a process and micro-batch")
    accumulation: int = _setting(1, "micro-batches a step")
    row_length: int = _setting(512, "tokens a row")
    learning_rate: float = _setting(2e-3, "peak of the cosine schedule")
    router_learning_rate: float | None = _setting(None, "of the routers; without it the same")
    warmup: float = _setting(0.03, "share of the steps in which the learning rate rises")
    rows: int | None = _setting(
        None, "different rows to draw from, again and again when the steps need more; without it no row comes twice"
    )
    hidden_cache: str | None = _setting(
        None, "directory that keeps what the frozen layers make of the rows, for later epochs and runs"
    )
    warm_start_steps: int = _setting(110, "regression steps that fit the adapters before the joint stage; 0 for none")
    warm_start_learning_rate: float = _setting(3e-3, "peak learning rate of the regression")
    initial_gate: float = _setting(0.88, "value near which gates start, when no costs are measured")
    cost_steps: int = _setting(
        0, "batches on which skipping a layer is priced; routers start by predicting it (hard gates, --target-depth)"
    )
    exercise_share: float = _setting(0.2, "chance of a copy / repeat / add / multiply item after a conversation")
    checkpointing: bool = _setting(False, "recompute activations in the backward pass: slower, less memory")
    save_every: int = _setting(50, "steps between resumable states")
    log_every: int = _setting(5, "steps between log entries")
    seed: int = _setting(0, "of data order, initial weights and sampled positions")
    data_seed: int | None = _setting(
        None, "of the exercises between conversations; runs that share it share --hidden-cache; without it --seed"
    )
    dtype: str = _setting("float32", "of the frozen base model: float32, or bfloat16 where that is fast")

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective must be one of {', '.join(OBJECTIVES)}, not {self.objective!r}")
        for name in ("steps", "batch_rows", "accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{_flag(name)} must be at least 1, not {getattr(self, name)}")
        if self.rows is not None and self.rows < self.batch_rows:
            raise UsageError(f"--rows must be at least one batch ({self.batch_rows}), not {self.rows}")
        if self.sampled_gates and self.gate_scaling != "hard":
            raise UsageError("--sampled-gates needs --gate-scaling hard: a scaled gate is no probability")
        if self.cost_steps and (self.gate_scaling != "hard" or self.target_depth is None):
            raise UsageError("--cost-steps needs --gate-scaling hard and --target-depth: skips are priced there")
        if self.keep_routers and self.start_from is None:
            raise UsageError("--keep-routers needs --start-from: the checkpoint to take them from")
        if self.row_length < 2:
            raise UsageError(f"--row-length must be at least 2, not {self.row_length}")
        for name in ("kl_fraction", "penalty_ramp", "warmup", "exercise_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{_flag(name)} must lie between 0 and 1, not {getattr(self, name)}")
        if self.exercise_share == 1.0:
            raise UsageError("--exercise-share must lie below 1: exercises never end")
        if not 0.0 < self.initial_gate < 1.0:
            raise UsageError(f"--initial-gate must lie between 0 and 1, not {self.initial_gate}")
        for name in ("skip_penalty", "learning_rate", "warm_start_learning_rate", "warm_start_steps", "cost_steps"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{_flag(name)} must be 0 or more, not {getattr(self, name)}")


@dataclass(frozen=True)
class Option:
    """One settings field as argparse takes it; its default is shown, not set, so that a file's value can stand."""

    flag: str
    arguments: dict[str, Any]


def options_of(settings: type) -> list[Option]:
    return [_option(entry) for entry in fields(settings)]


def read_settings(path: Path) -> dict[str, Any]:
    """Values of a JSON file with the names of TrainingSettings' fields, one file an experiment.

    Raises UsageError on a file that is none, and on names that are no setting.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"no settings at {path}: give a JSON file such as those in analysis/experiments") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}): correct it") from None
    known = {entry.name for entry in fields(TrainingSettings)}
    unknown = sorted(set(values) - known) if isinstance(values, dict) else ["no object"]
    if unknown:
        raise UsageError(f"{path} holds {', '.join(unknown)}, which is no setting: see train --help")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def settings_from(settings: type, values: dict[str, Any]) -> Any:
    """A settings value from those of `values` that it has; raises UsageError when one is missing without a default."""
    for entry in fields(settings):
        if entry.default is MISSING and entry.name not in values:
            raise UsageError(f"{_flag(entry.name)} is missing: {entry.metadata['help']}")
    return settings(**{entry.name: values[entry.name] for entry in fields(settings) if entry.name in values})


def _option(entry: Field[Any]) -> Option:
    text = entry.metadata["help"]
    if entry.type == "bool":
        return Option(_flag(entry.name), {"action": argparse.BooleanOptionalAction, "help": text})
    shown = "" if entry.default is MISSING or entry.default is None else f" ({entry.default})"
    metavar = entry.name.split("_")[-1].upper()
    return Option(_flag(entry.name), {"type": _READERS[str(entry.type)], "metavar": metavar, "help": text + shown})


def _layers(text: str) -> tuple[int, ...]:
    """ "15-29" or "15,17,20-25" -> layer indices."""
    layers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            layers.extend(range(int(first), int(last or first) + 1))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of layers such as 15-29 or 15,17,20") from None
    return tuple(layers)


_READERS = {
    "str": str,
    "int": int,
    "float": float,
    "int | None": int,
    "float | None": float,
    "str | None": str,
    "tuple[int, ...] | None": _layers,
}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
