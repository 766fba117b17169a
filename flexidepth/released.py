"""Models whose directory holds every weight, as the authors' release does: configuration, shards, tokenizer.

Knows transformers' loading and its errors; knows neither our own checkpoints nor where a directory comes from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth import base_models
from flexidepth.errors import CheckpointError, ConfigError, UsageError
from flexidepth.placement import Placement, dtype_on, roomy_place
from flexidepth.shards import check_shards


def load_released(
    directory: Path,
    name: str,
    placed: Placement | None,
    dtype: str | torch.dtype,
    progress: base_models.Progress,
) -> Any:
    """The model in `directory`. placed: None looks for room, and refuses before it loads when there is none.

    On a CPU the weights stay in their files, mapped into memory, and are read as they are used; what a device map
    leaves on disk likewise. Raises UsageError, CheckpointError, ConfigError.
    """
    config: Any = base_config(directory)
    if config.model_type not in ("flexidepth", "ddllama"):
        raise UsageError(
            f"{name} is a plain {config.model_type} model without routers: train some with "
            f"python -m flexidepth train --base {name}"
        )
    check_shards(directory)
    placed = placed or roomy_place(name, config, dtype)
    if placed.device == "several":
        progress(f"{name} is spread over several memories: what does not lie on a GPU is read anew at every token")
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype_on(placed.device, config, dtype),
            device_map=placed.device_map,
            max_memory=placed.max_memory,
            offload_folder=base_models.cache_directory() / "offload",  # for what the files do not hold as it is
        )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory} cannot be read ({first_line(error)}): fetch the model again") from None
    if model.device.type == "meta":
        raise UsageError("the device map leaves model.embed_tokens on disk: give it a device, such as cpu")
    return model


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Raises CheckpointError when the directory holds none that can be read."""
    try:
        return AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # the tokenizers library raises plain Exceptions
        raise CheckpointError(
            f"{directory} holds no tokenizer that can be read ({first_line(error)}): fetch tokenizer.json and "
            "tokenizer_config.json again"
        ) from None


def base_config(directory: Path) -> LlamaConfig:
    """Raises ConfigError for values that contradict each other, CheckpointError for a file that cannot be used."""
    try:
        return AutoConfig.from_pretrained(directory)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}/config.json cannot be used ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
