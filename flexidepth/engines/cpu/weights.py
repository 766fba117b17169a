"""A model's weights as step.cpp reads them: in 16 bits where that loses nothing, or in 8; routers folded.

Knows the module names of the transformers model; knows no compiler and no tokens.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flexidepth.engines.cpu import binding
from flexidepth.engines.reading import LayerReading, TokenReading
from flexidepth.engines.supported import refuse_unsupported
from flexidepth.errors import CheckpointError, EngineError
from flexidepth.layer import FlexiDepthDecoderLayer
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.placement import COPIED_LIMIT

PRECISIONS = ("exact", "int8")
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}  # the numbers that step.cpp knows them by
_ALIGNED = 64  # bytes
_STRETCH = 64 * 1024 * 1024  # bytes
_ROWS_AT_A_TIME = 4096  # of a weight that is looked through


@dataclass
class PackedWeights:
    """Structures full of pointers, and the memory that those point into."""

    shape: binding.Shape
    layers: ctypes.Array[binding.Layer]
    embedding: binding.Matrix
    head: binding.Matrix
    norm: int
    frequencies: int
    bytes: int  # of all matrices
    kept: list[Tensor] = field(repr=False)


class _Packer:
    """Copies tensors into stretches of memory. in_place: matrices that need no change are read where they are."""

    def __init__(self, precision: str, *, in_place: bool) -> None:
        self.precision = precision
        self.in_place = in_place
        self.bytes = 0
        self.kept: list[Tensor] = []
        self._stretch = torch.empty(0, dtype=torch.uint8)
        self._end = 0

    def vector(self, tensor: Tensor, size: int) -> int:
        """The address of a float32 copy."""
        _expect(tensor, size)
        return self._address(tensor.detach().to("cpu", torch.float32))

    def matrix(
        self, weight: Tensor, rows: int, columns: int, bias: Tensor | None = None, *, whole: bool = False
    ) -> binding.Matrix:
        """whole: in float32 whatever the precision. Raises CheckpointError for another shape, and for weights that are
        not finite.
        """
        _expect(weight, rows, columns)
        weight = weight.detach()
        if not all(bool(torch.isfinite(part).all()) for part in weight.split(_ROWS_AT_A_TIME)):
            raise CheckpointError(f"a weight of shape {[rows, columns]} is not finite: the checkpoint is broken")
        scale = None
        if whole:
            packed = weight.to("cpu", torch.float32)
        elif self.precision == "int8":
            full = weight.to("cpu", torch.float32)
            steps = full.abs().amax(1).clamp_min(1e-30) / 127  # [rows]
            packed = (full / steps[:, None]).round().to(torch.int8)
            scale = self.vector(steps, rows)
        else:
            packed = weight.to(torch.bfloat16)  # the same tensor where it is in bfloat16 already
            if packed is not weight and not torch.equal(packed.float(), weight):
                packed = weight.float()
        self.bytes += packed.numel() * packed.element_size()
        borrowed = self.in_place and packed.dtype == weight.dtype and packed.is_contiguous()
        if borrowed:
            self.kept.append(packed)
        elif self.in_place and self.precision == "exact" and not whole:
            raise EngineError("so large a model needs a second copy for the cpu engine: load it with dtype bfloat16")
        return binding.Matrix(
            packed.data_ptr() if borrowed else self._address(packed),
            scale,
            None if bias is None else self.vector(bias, rows),
            rows,
            columns,
            KINDS[packed.dtype],
        )

    def linear(self, module: nn.Linear, rows: int, columns: int) -> binding.Matrix:
        return self.matrix(module.weight, rows, columns, module.bias)

    def _address(self, tensor: Tensor) -> int:
        size = tensor.numel() * tensor.element_size()
        if self._end + size > len(self._stretch):
            self._stretch, self._end = _memory(max(size, _STRETCH)), 0
            self.kept.append(self._stretch)
        place = self._stretch[self._end : self._end + size]
        place.copy_(tensor.reshape(-1).view(torch.uint8))
        self._end += -(-size // _ALIGNED) * _ALIGNED
        return place.data_ptr()


def _expect(tensor: Tensor, *shape: int) -> None:
    """step.cpp trusts the configuration's widths, and would read beyond the end of anything smaller."""
    if tuple(tensor.shape) != shape:
        raise CheckpointError(f"a weight is {list(tensor.shape)}, the configuration says {list(shape)}")


def _memory(size: int) -> Tensor:
    """Bytes in large pages where the system has them: a fifth more bandwidth for what is read once a token."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


def pack(model: FlexiDepthForCausalLM, precision: str) -> PackedWeights:
    """precision: "exact" keeps every weight as it is, in half the bytes where it fits bfloat16; "int8" rounds the rows
    of all matrices but the routers to 8 bits, and keys and values to bfloat16. Raises EngineError for a model that
    step.cpp does not compute, CheckpointError for one with weights that are not finite.
    """
    config = model.config
    refuse_unsupported(config, "cpu")
    in_place = sum(p.numel() for p in model.parameters()) >= COPIED_LIMIT
    packer = _Packer(precision, in_place=in_place)
    shape, stack = _shape(model, half_cache=precision == "int8"), model.model
    layers = (binding.Layer * shape.layers)()
    place = 0
    for packed, module in zip(layers, stack.layers, strict=True):
        _pack_layer(packer, packed, module, shape)
        packed.place = -1
        if isinstance(module, FlexiDepthDecoderLayer):
            packed.place = place
            place += 1
            _pack_routing(packer, packed, module, shape)
    embedding = packer.matrix(stack.embed_tokens.weight, shape.vocab, shape.hidden)
    tied = model.lm_head.weight.data_ptr() == stack.embed_tokens.weight.data_ptr()
    head = embedding if tied else packer.linear(model.lm_head, shape.vocab, shape.hidden)
    rope: Any = stack.rotary_emb
    return PackedWeights(
        shape=shape,
        layers=layers,
        embedding=embedding,
        head=head,
        norm=packer.vector(stack.norm.weight, shape.hidden),
        frequencies=packer.vector(rope.inv_freq, shape.head_dim // 2),
        bytes=packer.bytes,
        kept=packer.kept,
    )


def _pack_layer(packer: _Packer, packed: binding.Layer, module: Any, shape: binding.Shape) -> None:
    """Norms, attention and FFN, which every layer has."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    packed.input_norm = packer.vector(module.input_layernorm.weight, shape.hidden)
    packed.post_norm = packer.vector(module.post_attention_layernorm.weight, shape.hidden)
    packed.q = packer.linear(module.self_attn.q_proj, queries, shape.hidden)
    packed.k = packer.linear(module.self_attn.k_proj, keys, shape.hidden)
    packed.v = packer.linear(module.self_attn.v_proj, keys, shape.hidden)
    packed.o = packer.linear(module.self_attn.o_proj, shape.hidden, queries)
    packed.gate = packer.linear(module.mlp.gate_proj, shape.ffn, shape.hidden)
    packed.up = packer.linear(module.mlp.up_proj, shape.ffn, shape.hidden)
    packed.down = packer.linear(module.mlp.down_proj, shape.hidden, shape.ffn)


def _pack_routing(
    packer: _Packer, packed: binding.Layer, module: FlexiDepthDecoderLayer, shape: binding.Shape
) -> None:
    router, adapter = module.router, module.router_proj
    packed.router_in = packer.matrix(router.router_enc.weight, shape.router_width, shape.hidden, whole=True)
    packed.router_norm = packer.vector(router.router_norm.weight, shape.router_width)
    packed.router_out = packer.vector(router.folded(), shape.router_width)
    packed.adapter_gate = packer.linear(adapter.gate_proj, shape.adapter_width, shape.hidden)
    packed.adapter_up = packer.linear(
        adapter.down_proj, shape.adapter_width, shape.hidden
    )  # released names: router.py
    packed.adapter_down = packer.linear(adapter.up_proj, shape.hidden, shape.adapter_width)


def _shape(model: FlexiDepthForCausalLM, *, half_cache: bool) -> binding.Shape:
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope: Any = model.model.rotary_emb
    return binding.Shape(
        layers=config.num_hidden_layers,
        routed=config.num_routed,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        ffn=config.intermediate_size,
        vocab=config.vocab_size,
        router_width=config.router_width,
        adapter_width=config.adapter_width,
        positions=config.max_position_embeddings,
        tanh_first=config.router_order == "tanh-norm",
        scaled=config.gate_scaling == "scaled",
        half_cache=half_cache,
        eps=config.rms_norm_eps,
        rope_scale=rope.attention_scaling,
    )


def reading(packed: PackedWeights) -> TokenReading:
    """What a token reads of them, and of the cache."""
    shape = packed.shape
    layers = []
    for layer in packed.layers:
        always = _sizes(layer, "k", "v")
        run = _sizes(layer, "q", "o", "gate", "up", "down")
        if layer.place < 0:
            layers.append(LayerReading(always, run))
        else:
            adapter = _sizes(layer, "adapter_gate", "adapter_up", "adapter_down")
            layers.append(LayerReading(always, run, _sizes(layer, "router_in"), adapter))
    cached = 2 if shape.half_cache else 4
    return TokenReading(layers, _size(packed.head), 2 * cached * shape.kv_heads * shape.head_dim)


def _sizes(layer: binding.Layer, *names: str) -> float:
    return float(sum(_size(getattr(layer, name)) for name in names))


def _size(matrix: binding.Matrix) -> int:
    return matrix.rows * matrix.columns * {0: 4, 1: 2, 2: 1}[matrix.kind]
