"""Trace -> tables: one row a token, one row a layer, one row a depth. Knows no torch, no figure and no page.

Layers are numbered from 1 in every table, as readers count them; a trace counts from 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from flexidepth.trace import Trace


def token_table(trace: Trace) -> pd.DataFrame:
    """One row a token, prompt tokens included; for every routed layer n the columns gate_<n> and run_<n>."""
    steps = trace.steps
    layers = [layer + 1 for layer in trace.header.routed_layers]
    gates = np.array([step.gates for step in steps], dtype=float).reshape(len(steps), len(layers))
    executed = np.array([step.executed for step in steps], dtype=bool).reshape(len(steps), len(layers))
    columns: dict[str, Any] = {
        "index": pd.Series([step.index for step in steps], dtype="int64"),
        "token_id": pd.Series([step.token_id for step in steps], dtype="int64"),
        "text": pd.Series([step.text for step in steps], dtype="object"),
        "is_prompt": pd.Series([step.is_prompt for step in steps], dtype="bool"),
        "layers_used": pd.Series([step.layers_used for step in steps], dtype="int64"),
        "probability": pd.Series([_probability(step.logprob) for step in steps], dtype="float64"),
        "logprob": pd.Series([step.logprob for step in steps], dtype="float64"),
        "entropy": pd.Series([step.entropy for step in steps], dtype="float64"),
        "seconds": pd.Series([step.seconds for step in steps], dtype="float64"),
        "stop": pd.Series([step.stop for step in steps], dtype="object"),
    }
    for place, layer in enumerate(layers):
        columns[f"gate_{layer}"] = gates[:, place]
    for place, layer in enumerate(layers):
        columns[f"run_{layer}"] = executed[:, place]
    return pd.DataFrame(columns)


def usage_table(trace: Trace) -> pd.DataFrame:
    """One row a layer: how many generated tokens it processed and their share (NaN without tokens)."""
    routed = set(trace.header.routed_layers)
    shares = trace.summary()["per_layer_usage"]
    tokens = len(trace.generated)
    share = pd.Series([math.nan if value is None else value for value in shares], dtype="float64")
    return pd.DataFrame(
        {
            "layer": range(1, trace.header.num_layers + 1),
            "always_on": [layer not in routed for layer in range(trace.header.num_layers)],
            "tokens": (share.fillna(0.0) * tokens).round().astype("int64"),
            "share": share,
        }
    )


def depth_table(trace: Trace) -> pd.DataFrame:
    """One row for each number of layers that a token can use: how many generated tokens used it, and their share."""
    header = trace.header
    depths = range(header.always_on, header.num_layers + 1)
    used = pd.Series([step.layers_used for step in trace.generated], dtype="int64")
    counts = used.value_counts().reindex(depths, fill_value=0)
    return pd.DataFrame(
        {"layers_used": list(depths), "tokens": counts.to_numpy(), "share": counts.to_numpy() / max(1, len(used))}
    )


def summary_table(trace: Trace) -> pd.DataFrame:
    """The run's summary as rows of name and value, without the per-layer list (`usage_table` has it)."""
    summary = {name: value for name, value in trace.summary().items() if name != "per_layer_usage"}
    return pd.DataFrame({"name": list(summary), "value": pd.Series(list(summary.values()), dtype="object")})


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)
