"""What the frozen half of a model computes for training rows, kept on disk: computed once, read by every later epoch.

Holds, per token, the hidden state that enters the first routed layer and the base model's last one. Knows rows of
token ids and the model; knows no loss and no trainer. Written by one process, then read by any number through memory
maps.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flexidepth.errors import TrainingError
from flexidepth.modeling import FlexiDepthForCausalLM

_ABOUT_FILE = "about.json"
_BYTES = 2  # float16 or bfloat16
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class HiddenCache:
    """entered, teacher: [N, T, D] memory maps of 16-bit floats, stored as int16. dtype: what those bits mean."""

    entered: np.ndarray
    teacher: np.ndarray
    dtype: torch.dtype

    def row(self, index: int) -> dict[str, Tensor]:
        """The two hidden states of one row, each [T, D]."""
        return {
            "hidden": torch.from_numpy(self.entered[index].copy()).view(self.dtype),
            "teacher_hidden_state": torch.from_numpy(self.teacher[index].copy()).view(self.dtype),
        }


def hidden_cache(
    model: FlexiDepthForCausalLM,
    rows: np.ndarray,
    directory: Path,
    *,
    fingerprint: str,
    batch_rows: int,
    report: Report = lambda *_: None,
) -> HiddenCache:
    """The cache of [N, T] rows in `directory`: read when it is there, made when it is not, gone on with when it was
    cut off.

    Raises TrainingError when the directory holds the states of other rows or another base model, when the disk is too
    small, and when a hidden state does not fit its 16 bits.
    """
    dtype = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float16
    shape = (*rows.shape, model.config.hidden_size)
    about = {
        "rows": hashlib.sha256(rows.tobytes()).hexdigest(),
        "shape": list(shape),
        "base_fingerprint": fingerprint,
        "first_routed_layer": model.config.first_routed,
        "dtype": str(dtype).removeprefix("torch."),
    }
    done = _started(directory, about, shape)
    maps = [
        np.memmap(directory / name, np.int16, "r+" if (directory / name).exists() else "w+", shape=shape)
        for name in ("entered.bin", "teacher.bin")
    ]
    report(done, len(rows))
    while done < len(rows):
        part = slice(done, min(done + batch_rows, len(rows)))
        for kept, states in zip(maps, _states(model, rows[part], dtype), strict=True):
            kept[part] = states
        done = part.stop
        if done == len(rows) or done // 64 > part.start // 64:
            for kept in maps:
                kept.flush()
            _note(directory, about, done)
        report(done, len(rows))
    entered, teacher = maps
    return HiddenCache(entered, teacher, dtype)


def _started(directory: Path, about: dict[str, Any], shape: tuple[int, ...]) -> int:
    """Rows that the directory holds already, after making sure that they are these rows and that the rest fits."""
    path = directory / _ABOUT_FILE
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        done = int(found.pop("done"))
        other = [name for name, value in about.items() if found.get(name) != value]
        if other:
            raise TrainingError(
                f"{directory} keeps the hidden states of another run (it differs in {', '.join(other)}): "
                "choose another directory, or delete this one"
            )
        return done
    directory.mkdir(parents=True, exist_ok=True)
    needed = 2 * _BYTES * int(np.prod(shape))
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise TrainingError(
            f"hidden states need {needed / 1e9:.1f} GB and {directory} has {free / 1e9:.1f} GB free: "
            "choose another disk, fewer rows, or leave the cache out"
        )
    _note(directory, about, 0)
    return 0


def _note(directory: Path, about: dict[str, Any], done: int) -> None:
    (directory / _ABOUT_FILE).write_text(json.dumps(about | {"done": done}, indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def _states(model: FlexiDepthForCausalLM, rows: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """[n, T] ids -> the two hidden states [n, T, D] as 16-bit words, in one pass of the base model.

    The teacher goes on from the stored, rounded state, so that student and teacher start from the same numbers.
    """
    kept: list[Tensor] = []

    def round_off(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(args[0].to(dtype))
        return kept[0].to(args[0].dtype), *args[1:]

    ids = torch.from_numpy(rows.astype(np.int64)).to(model.device)
    hook = model.model.layers[model.config.first_routed].register_forward_pre_hook(round_off)
    try:
        teacher = model.model(ids, routes="all", use_cache=False).last_hidden_state
    finally:
        hook.remove()
    words = []
    for states in (kept[0], teacher.to(dtype)):
        if not torch.isfinite(states).all():
            raise TrainingError(f"a hidden state of the base model does not fit {dtype}: train with --dtype bfloat16")
        words.append(states.view(torch.int16).cpu().numpy())
    return words[0], words[1]
