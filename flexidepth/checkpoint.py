"""Router and adapter weights on disk, and the one way to get a ready model: `load`.

A checkpoint of ours is a directory with flexidepth.json and flexidepth.safetensors: routers and adapters alone, with
the fingerprint of the base model that they were trained on. Knows no training and no text.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.integrations.accelerate import load_offloaded_parameter
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth import base_models
from flexidepth.configuration import FlexiDepthConfig
from flexidepth.errors import CheckpointError, UnknownModelError, UsageError
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.placement import DeviceMap, Placement, checked_dtype, dtype_on, resolve_device, roomy_place
from flexidepth.released import base_config, load_released, load_tokenizer

CARD_FILE = "flexidepth.json"
WEIGHTS_FILE = "flexidepth.safetensors"
FORMAT = 1
BUNDLED_CHECKPOINTS = Path(__file__).parents[1] / "assets" / "checkpoints"

_OWN_FIELDS = (
    "routed_layers",
    "router_reduction_factor",
    "adapter_reduction_factor",
    "threshold",
    "gate_scaling",
    "router_order",
)
_FINGERPRINT_SAMPLES = 64


@dataclass(frozen=True)
class CheckpointCard:
    """flexidepth.json: what the weights beside it need in order to be used."""

    base: str  # name, directory or Hub id of the base model
    base_fingerprint: str
    config: dict[str, Any]
    versions: dict[str, str]
    training: dict[str, Any]
    format: int = FORMAT

    @classmethod
    def read(cls, directory: Path) -> CheckpointCard:
        """Raises CheckpointError on a file of another format, or with missing or unknown keys."""
        try:
            data = json.loads((directory / CARD_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{directory / CARD_FILE} cannot be read ({error}): fetch the checkpoint again"
            ) from None
        expected = set(cls.__dataclass_fields__)
        if data.get("format") != FORMAT or set(data) != expected:
            odd = sorted(set(data) ^ expected) or [f"format {data.get('format')}"]
            raise CheckpointError(
                f"{directory / CARD_FILE} does not fit this version: {', '.join(odd)}; update the code"
            )
        odd = sorted(set(data["config"]) ^ set(_OWN_FIELDS))
        if odd:
            raise CheckpointError(
                f"{directory / CARD_FILE} has missing or unknown configuration keys: {', '.join(odd)}; correct them"
            )
        return cls(**data)


def load(
    name_or_path: str | Path = "smollm2-135m",
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    *,
    base: str | None = None,
    force: bool = False,
    progress: base_models.Progress | None = None,
    device_map: DeviceMap | None = None,
) -> tuple[FlexiDepthForCausalLM, PreTrainedTokenizerBase]:
    """A model ready to run and its tokenizer.

    name_or_path: a bundled checkpoint's name, a directory (of ours, or in the released layout) or a Hub id. device:
    "auto" takes what `placement.place` finds room on, and refuses, before it loads, what has none. base: replaces
    the base model that the checkpoint names. force: accept a base model with another fingerprint. progress: is told in
    words what takes long, such as a first download; without it the lines go to the log. device_map: where each module
    of a released model lies ("cpu", "disk", a GPU's number), in place of device.
    Raises UnknownModelError, CheckpointError, ConfigError, BaseModelError, UsageError.
    """
    fixed = None if device == "auto" else resolve_device(device)
    kind = checked_dtype(dtype)
    model: Any  # from_pretrained is typed more narrowly than it is
    progress = progress or logging.getLogger(__name__).info
    directory = _directory(str(name_or_path), progress)
    if (directory / CARD_FILE).is_file():
        if device_map is not None:
            raise UsageError("a device map needs a model in the released layout: leave it out, or name a device")
        card = CheckpointCard.read(directory)
        base_path = base_models.base_directory(base or card.base, progress=progress)
        config = FlexiDepthConfig.from_base(base_config(base_path), **card.config)
        device = fixed or roomy_place(directory.name, config, kind, may_split=False).device
        model = from_base(base_path, card.config, device=device, dtype=kind)
        found = base_fingerprint(model)
        if found != card.base_fingerprint and not force:
            raise CheckpointError(
                f"{directory.name} was trained on {card.base} (fingerprint {card.base_fingerprint}), not on "
                f"{base_path} ({found}): give that base model, or load with force=True to try anyway"
            )
        attach(model, directory / WEIGHTS_FILE)
        tokenizer_path = base_path
    else:
        placed = None if fixed is None else Placement(fixed, fixed)
        if device_map is not None:
            placed = Placement("several", dict(device_map))
        model = load_released(directory, str(name_or_path), placed, kind, progress)
        tokenizer_path = directory
    model.eval()
    model.name_or_path = str(name_or_path)
    return model, load_tokenizer(tokenizer_path)


def from_base(
    base_path: Path, own: dict[str, Any], *, device: str = "cpu", dtype: str | torch.dtype = "auto"
) -> FlexiDepthForCausalLM:
    """The base model in `base_path` with freshly initialised routers and adapters. `own`: our configuration fields."""
    config = FlexiDepthConfig.from_base(base_config(base_path), **own)
    return FlexiDepthForCausalLM.from_base(
        base_path, config=config, dtype=dtype_on(device, config, checked_dtype(dtype)), device_map=device
    )


def attach(model: FlexiDepthForCausalLM, weights: Path) -> None:
    """Loads router and adapter weights into the model. Raises CheckpointError unless every tensor fits."""
    try:
        state = load_file(weights, device="cpu")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights} cannot be read ({error}): fetch the checkpoint again") from None
    expected = trained_state(model)
    problems = {
        "missing": sorted(set(expected) - set(state)),
        "unexpected": sorted(set(state) - set(expected)),
        "of another shape": sorted(k for k in set(state) & set(expected) if state[k].shape != expected[k].shape),
        "not finite": sorted(k for k, tensor in state.items() if not torch.isfinite(tensor).all()),
    }
    named = [f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]
    if named:
        raise CheckpointError(
            f"{weights} does not fit the model ({'; '.join(named)}): use the file saved with {CARD_FILE}"
        )
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(state[name])


def save(
    model: FlexiDepthForCausalLM,
    directory: Path,
    *,
    base: str,
    training: dict[str, Any] | None = None,
    state: dict[str, Tensor] | None = None,
    fingerprint: str | None = None,
) -> CheckpointCard:
    """Writes router and adapter weights (bfloat16) and flexidepth.json. base: how a loader finds the base model.

    A model whose parameters are sharded over processes has to bring its `whole_state` and its base's fingerprint.
    """
    directory.mkdir(parents=True, exist_ok=True)
    card = CheckpointCard(
        base=base,
        base_fingerprint=fingerprint or base_fingerprint(model),
        config={name: getattr(model.config, name) for name in _OWN_FIELDS},
        versions={package: version(package) for package in ("torch", "transformers")},
        training=training or {},
    )
    state = whole_state(model) if state is None else state
    saved = {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in state.items()}
    save_file(saved, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    (directory / CARD_FILE).write_text(json.dumps(card.__dict__, indent=2) + "\n", encoding="utf-8")
    return card


def trained_state(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Router and adapter parameters by name: all that trains, and all that a checkpoint holds."""
    return {name: parameter for name, parameter in model.named_parameters() if ".router" in name}


def whole_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """The values of `trained_state`, sharded ones (FSDP2) gathered: every process has to take part in this."""
    state: dict[str, Any] = {name: parameter.detach() for name, parameter in trained_state(model).items()}
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}


def base_fingerprint(model: PreTrainedModel) -> str:
    """16 hex digits over every base tensor's name, shape and a sample of its values.

    Values are compared as bfloat16, so that the same base has the same fingerprint in whatever precision it is loaded.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        if ".router" in name:
            continue
        flat = tensor.detach().flatten()
        places = torch.linspace(0, flat.numel() - 1, _FINGERPRINT_SAMPLES, dtype=torch.float64).long().to(flat.device)
        sample = flat[places].to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name}{list(tensor.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def trained_fingerprint(model: PreTrainedModel) -> str:
    """16 hex digits over router and adapter weights: which checkpoint made a trace.

    Every run asks, and reading an 8B model's takes a second: kept on the model until one of the weights changes.
    """
    state = sorted(trained_state(model).items())
    # A tensor made in inference mode does not count its changes, and nobody trains one.
    seen = [(id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for _, tensor in state]
    kept = vars(model).get("_trained_fingerprint")
    if kept is not None and kept[0] == seen:
        return str(kept[1])
    digest = hashlib.sha256()
    for name, tensor in state:
        here: Tensor = load_offloaded_parameter(model, name) if tensor.is_meta else tensor
        digest.update(name.encode() + here.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    found = digest.hexdigest()[:16]
    vars(model)["_trained_fingerprint"] = (seen, found)
    return found


def _directory(name_or_path: str, progress: base_models.Progress) -> Path:
    bundled = BUNDLED_CHECKPOINTS / name_or_path
    if "/" not in name_or_path and (bundled / CARD_FILE).is_file():
        return bundled
    path = Path(name_or_path)
    if path.is_dir():
        if not ((path / CARD_FILE).is_file() or (path / "config.json").is_file()):
            raise UnknownModelError(f"{path} holds neither {CARD_FILE} nor config.json: give a model's directory")
        return path
    if base_models.HUB_ID.fullmatch(name_or_path):
        return base_models.hub_directory(name_or_path, progress, described_by=(CARD_FILE, "config.json"))
    names = sorted(entry.parent.name for entry in BUNDLED_CHECKPOINTS.glob(f"*/{CARD_FILE}"))
    raise UnknownModelError(
        f"unknown model {name_or_path!r}: use one of {', '.join(names)}, a directory, or a Hub id such as owner/name"
    )
