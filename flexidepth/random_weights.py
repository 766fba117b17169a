"""A model of a given shape with random weights: fair for timing, where only shapes count, and for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from flexidepth.checkpoint import trained_state
from flexidepth.errors import ConfigError, UsageError
from flexidepth.modeling import FlexiDepthForCausalLM


def random_model(shape: Path, device: str, *, seed: int = 0) -> FlexiDepthForCausalLM:
    """shape: a config.json with routed layers. bfloat16, routers float32. Its gates lie close around one half, so that
    about every second routed layer runs. Raises UsageError for a file that describes no such model.
    """
    try:
        config: Any = AutoConfig.from_pretrained(shape)
        config.require_complete()
    except (OSError, ValueError, AttributeError, ConfigError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{shape} describes no FlexiDepth model ({reason}): give its config.json") from None
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):  # made where it stays: a large model would not fit twice
            model = FlexiDepthForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    for name, parameter in trained_state(model).items():
        if ".router." in name:
            parameter.data = parameter.data.float()
    return model.eval()
