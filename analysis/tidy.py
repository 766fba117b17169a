"""Recorded runs -> one row a token, as Parquet and CSV, for whoever counts with tools of their own.

Layers are numbered from 1, as in every table that people read. Knows no torch and no model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.recorded import Recorded
from analysis.views.export import safe_cell
from flexidepth.errors import UsageError

PARQUET_FILE = "tokens.parquet"
CSV_FILE = "tokens.csv"


def tidy_table(runs: Iterable[Recorded]) -> pd.DataFrame:
    """Columns task, prompt (the input's number), position, token_id, token, generated, layers_used, logprob, entropy,
    seconds, and for every routed layer n gate_<n> and run_<n>. Raises UsageError for runs of different models.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    gates, executed = [], []
    routed: tuple[int, ...] | None = None
    for run in runs:
        header, steps = run.trace.header, run.trace.steps
        if routed not in (None, header.routed_layers):
            raise UsageError("the runs are of models with different routed layers: make a table of each alone")
        routed = header.routed_layers
        columns["task"] += [run.prompt.task] * len(steps)
        columns["prompt"] += [run.prompt.number] * len(steps)
        columns["position"] += [step.index for step in steps]
        columns["token_id"] += [step.token_id for step in steps]
        columns["token"] += [step.text for step in steps]
        columns["generated"] += [not step.is_prompt for step in steps]
        columns["layers_used"] += [step.layers_used for step in steps]
        for name in ("logprob", "entropy", "seconds"):
            columns[name] += [getattr(step, name) for step in steps]
        gates += [step.gates for step in steps]
        executed += [step.executed for step in steps]
    layers = [layer + 1 for layer in routed or ()]
    table = pd.DataFrame(
        {name: pd.Series(columns[name], dtype=kind) for name, kind in _KINDS.items()},
    )
    shape = (len(table), len(layers))
    return pd.concat(
        [
            table,
            pd.DataFrame(np.array(gates, dtype=np.float32).reshape(shape), columns=[f"gate_{n}" for n in layers]),
            pd.DataFrame(np.array(executed, dtype=bool).reshape(shape), columns=[f"run_{n}" for n in layers]),
        ],
        axis=1,
    )


_KINDS = {
    "task": "object",
    "prompt": "int32",
    "position": "int32",
    "token_id": "int32",
    "token": "object",  # half an emoji is no string to arrow
    "generated": "bool",
    "layers_used": "int16",
    "logprob": "float64",
    "entropy": "float64",
    "seconds": "float64",
}


def write_tables(table: pd.DataFrame, directory: Path) -> tuple[Path, Path]:
    """tokens.parquet with the text as it is, tokens.csv with text that no spreadsheet runs."""
    paths = directory / PARQUET_FILE, directory / CSV_FILE
    storable, inert = (
        table.assign(**{name: list(map(made, table[name])) for name in ("task", "token")})
        for made in (_encodable, safe_cell)
    )
    storable.to_parquet(paths[0], index=False)
    inert.to_csv(paths[1], index=False, float_format="%.6g")
    return paths


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
