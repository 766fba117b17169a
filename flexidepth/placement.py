"""Where a model's weights go: what they take, what this machine has free, and the device or device map that follows.

Knows shapes and free memory; reads no weights, and knows no file, no page and no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from flexidepth.configuration import FlexiDepthConfig
from flexidepth.errors import UsageError
from flexidepth.layer import FlexiDepthDecoderLayer

GB = 1_000_000_000
CPU_FLOAT32_LIMIT = 1_000_000_000  # parameters; float32 is faster on most CPUs, as long as it fits
COPIED_LIMIT = 2_000_000_000  # parameters, from which on the cpu engine makes no copy of its own
_WORK = 1 * GB  # for keys, values and what a pass computes
_OVERHEAD = 1.05  # of the weights: buffers, and what an allocator loses between tensors

DeviceMap = Mapping[str, int | str]


@dataclass(frozen=True)
class Room:
    """Free memory in bytes, at one moment. gpus: of every CUDA device, by its number."""

    host: int
    gpus: tuple[int, ...] = ()

    @classmethod
    def here(cls) -> Room:
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
        return cls(psutil.virtual_memory().available, tuple(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus))

    def and_also(self, host: int, gpu: int) -> Room:
        """The room once so many bytes more are free, those on a GPU on the first one."""
        return Room(self.host + host, tuple(free + gpu * (place == 0) for place, free in enumerate(self.gpus)))


@dataclass(frozen=True)
class Need:
    """What a model's weights take in bytes: on a GPU, and in this machine's memory, where small models are held in
    float32 and the cpu engine makes a copy of them. Both with what a run needs beside them.
    """

    gpu: int
    host: int
    largest: int  # the largest piece that cannot be split, on a GPU
    weights: int  # the weights alone, as they are stored

    @classmethod
    def of(cls, config: FlexiDepthConfig, dtype: str | torch.dtype = "auto") -> Need:
        """dtype: of the weights; "auto" is the stored one. Raises ConfigError for an incomplete configuration."""
        size = Size.of(config)
        stored: Any = dtype if isinstance(dtype, torch.dtype) else config.dtype or torch.float32
        kept = dtype_on("cpu", config, dtype)
        on_host = kept if isinstance(kept, torch.dtype) else stored

        def with_work(copies: int, kind: torch.dtype) -> int:
            return int((4 * size.routers + copies * size.others * kind.itemsize) * _OVERHEAD) + _WORK

        copies = 2 if size.routers + size.others < COPIED_LIMIT else 1
        weights = (size.routers + size.others) * stored.itemsize
        return cls(with_work(1, stored), with_work(copies, on_host), size.largest * stored.itemsize, weights)


@dataclass(frozen=True)
class Size:
    """Numbers of parameters. routers: in float32, whatever the others are held in. largest: of the largest piece."""

    routers: int
    others: int
    largest: int

    @classmethod
    def of(cls, config: FlexiDepthConfig) -> Size:
        config.require_complete()
        with torch.device("meta"):  # one layer of each kind, as a page asks for this whenever it opens
            routed, plain = FlexiDepthDecoderLayer(config, 0), LlamaDecoderLayer(config, 0)
        router = _count(routed.router)
        vocabulary = config.vocab_size * config.hidden_size
        ends = vocabulary * (1 if config.tie_word_embeddings else 2) + config.hidden_size
        others = config.num_routed * (_count(routed) - router) + config.always_on * _count(plain) + ends
        return cls(config.num_routed * router, others, max(_count(routed), vocabulary))


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def checked_dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    """ "auto", or a dtype. Raises UsageError for a name that is none."""
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    resolved = getattr(torch, dtype, None)
    if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
        raise UsageError(f"dtype {dtype!r} is unknown: use auto, float32, bfloat16 or float16")
    return resolved


def dtype_on(device: str, config: FlexiDepthConfig, dtype: str | torch.dtype) -> str | torch.dtype:
    """What weights are held in on a device; "auto", as they are stored."""
    if dtype == "auto" and device == "cpu":
        size = Size.of(config)
        return torch.float32 if size.routers + size.others < CPU_FLOAT32_LIMIT else "auto"
    return dtype


@dataclass(frozen=True)
class Placement:
    """device_map and max_memory as `from_pretrained` takes them. device: "cpu", a GPU, or "several"."""

    device: str
    device_map: str | dict[str, int | str]
    max_memory: dict[int | str, int] | None = None


def place(need: Need, room: Room, *, may_split: bool = True) -> Placement | None:
    """The GPU with most room, if the weights fit; else what does not fit there in this machine's memory, and on disk;
    without a GPU, this machine's memory. None when none of this can hold them.
    """
    best = max(range(len(room.gpus)), key=room.gpus.__getitem__, default=None)
    if best is not None and room.gpus[best] >= need.gpu:
        return Placement(f"cuda:{best}", f"cuda:{best}")
    if may_split and best is not None and room.gpus[0] >= need.largest + _WORK:
        limits: dict[int | str, int] = {gpu: max(0, free - _WORK) for gpu, free in enumerate(room.gpus)}
        return Placement("several", "auto", limits | {"cpu": max(0, room.host - _WORK)})
    return Placement("cpu", "cpu") if room.host >= need.host else None


def roomy_place(name: str, config: FlexiDepthConfig, dtype: str | torch.dtype, *, may_split: bool = True) -> Placement:
    """Where the model goes on this machine, now. Raises UsageError when there is no room for it."""
    need, room = Need.of(config, dtype), Room.here()
    found = place(need, room, may_split=may_split)
    if found is None:
        raise UsageError(f"{name} {shortage(need, room)}")
    return found


def shortage(need: Need, room: Room) -> str:
    """Why `place` gave none, in a few words, with the way out."""
    gpu = f", and {max(room.gpus) / GB:.1f} GB on the GPU" if room.gpus else ""
    return (
        f"needs {need.host / GB:.1f} GB of memory, {room.host / GB:.1f} GB are free here{gpu}: free some, or use a "
        f"machine with {_next_size(need.host)} GB or a GPU with {_next_size(need.gpu)} GB"
    )


def _next_size(needed: int) -> int:
    """The smallest memory that is sold, in GB, with some left for everything else."""
    sizes = (4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256)
    return next((size for size in sizes if size * GB >= 1.1 * needed), -(-needed // GB))


def resolve_device(device: str) -> str:
    """ "auto" -> cuda when there is one, else cpu. Raises UsageError for a device that this machine lacks."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} is not available ({first_line}): use cpu or auto") from None
    return device
