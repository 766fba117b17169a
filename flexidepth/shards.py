"""Whether the weight files of a model's directory are whole: said before anything is loaded, in one line.

Reads the index and the header of every file; reads no weight, and knows no model.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from flexidepth.errors import CheckpointError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


def check_shards(directory: Path) -> None:
    """Raises CheckpointError when a file is missing, cut off, or without a tensor that the index says it holds."""
    for file, names in _listed(directory).items():
        path = directory / file
        try:
            with safe_open(path, framework="pt") as shard:
                absent = sorted(names - set(shard.keys()))
        except FileNotFoundError:
            raise CheckpointError(f"{directory} lacks {file}: fetch that file, or the whole model again") from None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): fetch that file again") from None
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise CheckpointError(
                f"{path} lacks {absent[0]}{more}, which {INDEX_FILE} promises: fetch index and files from one place"
            )


def _listed(directory: Path) -> dict[str, set[str]]:
    """Names of tensors by the file that holds them, as the index says; without an index, no names are known."""
    # The order in which transformers looks.
    if (directory / SINGLE_FILE).is_file() or not (directory / INDEX_FILE).is_file():
        return {SINGLE_FILE: set()}
    try:
        weight_map = json.loads((directory / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"]
        listed: dict[str, set[str]] = {}
        for name, file in weight_map.items():
            if Path(file).name != file:
                raise ValueError(f"{file!r} is no file name")
            listed.setdefault(file, set()).add(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{directory / INDEX_FILE} cannot be read ({reason}): fetch it again") from None
    return listed
