"""The model as joint training finds it: a frozen base, adapters and routers fitted to it or taken from a checkpoint.

Knows settings, rows of token ids and the fits (warm_start.py, skip_costs.py); knows no trainer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoTokenizer

from flexidepth import base_models, checkpoint, skip_costs, warm_start
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.settings import TrainingSettings


def prepare(settings: TrainingSettings) -> tuple[FlexiDepthForCausalLM, Any]:
    """The frozen base model with fresh routers and adapters, and its tokenizer."""
    path = base_models.base_directory(settings.base)
    layers = checkpoint.base_config(path).num_hidden_layers
    routed = settings.routed_layers or tuple(range(layers // 2, layers))
    own = {
        "routed_layers": list(routed),
        "router_reduction_factor": settings.router_reduction_factor,
        "adapter_reduction_factor": settings.adapter_reduction_factor,
        "threshold": 0.5,
        "gate_scaling": settings.gate_scaling,
        "router_order": settings.router_order,
    }
    model = checkpoint.from_base(path, own, device=checkpoint.resolve_device("auto"), dtype=settings.dtype)
    freeze_base(model)
    return model, AutoTokenizer.from_pretrained(path)


def freeze_base(model: FlexiDepthForCausalLM) -> None:
    """Leaves gradients to routers and adapters alone, and keeps those in float32: AdamW loses small updates in
    bfloat16.
    """
    model.requires_grad_(False)
    for parameter in checkpoint.trained_state(model).values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)


def fit(
    model: FlexiDepthForCausalLM, warm_rows: np.ndarray, joint_rows: np.ndarray, settings: TrainingSettings
) -> dict[str, Any]:
    """Sets adapters, then routers, as the settings say. Returns what there is to tell of it, for the record."""
    told: dict[str, Any] = {}
    if settings.start_from is not None:
        checkpoint.attach(model, Path(settings.start_from) / checkpoint.WEIGHTS_FILE)
    elif settings.warm_start_steps:
        told |= _fit_adapters(model, _batches(model, warm_rows, settings), settings)
    if settings.keep_routers:
        return told
    batches = _batches(model, joint_rows, settings)
    if not settings.cost_steps:
        return told | {"mean_gate": warm_start.centre_gates(model, batches[0], gate=settings.initial_gate)}
    priced = tqdm(batches[: settings.cost_steps], unit="batch", desc="prices of skipping", disable=None)
    costs = skip_costs.measure(model, priced)
    assert settings.target_depth is not None
    skipped = model.config.num_hidden_layers - settings.target_depth
    means = [costs.of(layer)[1].mean().item() for layer in range(model.config.num_routed)]
    return told | {"skip_cost": means, "price": skip_costs.fit_routers(model, costs, skipped=skipped)}


def _batches(model: FlexiDepthForCausalLM, rows: np.ndarray, settings: TrainingSettings) -> list[Tensor]:
    return [
        torch.from_numpy(rows[first : first + settings.batch_rows].astype(np.int64)).to(model.device)
        for first in range(0, len(rows), settings.batch_rows)
    ]


def _fit_adapters(model: FlexiDepthForCausalLM, batches: list[Tensor], settings: TrainingSettings) -> dict[str, Any]:
    history: list[float] = []
    with tqdm(total=len(batches), unit="batch", desc="adapters", disable=None) as bar:

        def report(_: int, left: list[float]) -> None:
            history.append(sum(left) / len(left))
            bar.set_postfix_str(f"{history[-1]:.1%} of the skipping cost left", refresh=False)
            bar.update()

        left = warm_start.fit_adapters(model, batches, learning_rate=settings.warm_start_learning_rate, report=report)
    return {"cost_left": left, "curve": history}
