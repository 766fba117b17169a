"""The mean of runs of one recipe: their weights averaged into one checkpoint. Knows checkpoint files; loads no model.

Runs that start alike and differ in their seed alone end in one basin, where the mean of their weights is better than
each of them (a "model soup", arXiv 2203.05482).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from flexidepth.checkpoint import CARD_FILE, WEIGHTS_FILE
from flexidepth.errors import CheckpointError, UsageError

_RECORD_FILE = "training.json"


def average(runs: Sequence[Path], out: Path) -> Path:
    """Writes a checkpoint directory whose weights are the mean of the runs', with the first one's record and what the
    others took. Raises UsageError for fewer than two runs and for an `out` that is there, CheckpointError for runs
    that do not fit each other.
    """
    if len(runs) < 2:
        raise UsageError("a mean needs two runs or more: give their directories")
    if out.exists():
        raise UsageError(f"{out} exists: choose another --out")
    cards, records = ([_read(run / name) for run in runs] for name in (CARD_FILE, _RECORD_FILE))
    for name in ("base_fingerprint", "config"):
        if any(card[name] != cards[0][name] for card in cards):
            raise CheckpointError(f"the runs differ in their {name}: only runs of one recipe have a mean")
    states = [load_file(run / WEIGHTS_FILE) for run in runs]
    if any(state.keys() != states[0].keys() for state in states):
        raise CheckpointError("the runs hold different weights: only runs of one recipe have a mean")
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(torch.bfloat16) for name in states[0]
    }
    out.mkdir(parents=True)
    save_file(mean, out / WEIGHTS_FILE, metadata={"format": "pt"})
    shutil.copyfile(runs[0] / CARD_FILE, out / CARD_FILE)
    others = [{name: record[name] for name in ("tokens", "seconds")} | _seed(record) for record in records[1:]]
    record = records[0] | {"averaged_with": others}
    (out / _RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return out


def _seed(record: dict[str, Any]) -> dict[str, int]:
    return {"seed": record["settings"]["seed"]}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"no {path.name} in {path.parent}: give a directory that train has finished") from None
