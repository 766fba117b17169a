"""Which kernels a token launches, in which order, on which weights and memory. Knows no graph and no host copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flexidepth.engines.cuda import kernels
from flexidepth.engines.cuda.memory import RunMemory, Tiles
from flexidepth.layer import FlexiDepthDecoderLayer
from flexidepth.modeling import FlexiDepthForCausalLM


@dataclass(frozen=True)
class Launch:
    """One kernel with everything that it is called with."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]

    def __call__(self) -> None:
        self.kernel[self.grid](**self.arguments, enable_fp_fusion=True)  # Triton's default changes in 3.10


def token_launches(
    model: FlexiDepthForCausalLM, folded: list[Tensor], memory: RunMemory, tiles: Tiles, *, routers: bool
) -> list[Launch]:
    """folded: of each routed layer, the router's last two matrices as one vector. routers: without them the base model
    is computed, for timing.
    """
    return list(_Plan(model, folded, memory, tiles, routers).launches())


class _Plan:
    def __init__(
        self, model: FlexiDepthForCausalLM, folded: list[Tensor], memory: RunMemory, tiles: Tiles, routers: bool
    ) -> None:
        self.model = model
        self.config: Any = model.config
        self.folded = folded
        self.memory = memory
        self.tiles = tiles
        self.routers = routers

    def launches(self) -> Iterator[Launch]:
        memory, stack = self.memory, self.model.model
        columns = self.config.hidden_size
        table = {"token": memory.token, "table": stack.embed_tokens.weight, "hidden": memory.hidden}
        yield Launch(kernels.embed, (-(-columns // 512),), {**table, "COLUMNS": columns, "STEP": 512})
        place = 0
        for index, layer in enumerate(stack.layers):
            if self.routers and isinstance(layer, FlexiDepthDecoderLayer):
                yield from self._layer(layer, index, place)
                place += 1
            else:
                yield from self._layer(layer, index, None)
        yield self._product(
            kernels.predict,
            self.config.vocab_size,
            columns,
            hidden=memory.hidden,
            norm=stack.norm.weight,
            eps=self.config.rms_norm_eps,
            weight=self.model.lm_head.weight,
            logits=memory.logits,
            best=memory.best,
            best_row=memory.best_row,
            ROWS=self.config.vocab_size,
        )
        count = len(memory.best)
        chosen = {"token": memory.token, "position": memory.position, "guess": memory.guess}
        found = {"best": memory.best, "best_row": memory.best_row}
        yield Launch(kernels.advance, (1,), {**found, **chosen, "COUNT": count, "STEP": _power(count)})

    def _layer(self, layer: Any, index: int, place: int | None) -> Iterator[Launch]:
        """place: among the routed layers; None for one that every token runs."""
        memory, config = self.memory, self.config
        flag = memory.always if place is None else memory.flags[place : place + 1]
        gate = memory.one if place is None else memory.gates[place : place + 1]
        yield self._project(layer, index, routed=place is not None)
        if place is not None:
            yield self._decide(layer, place)
        yield from self._attend(index, flag)
        yield self._product(
            kernels.add_attention,
            config.hidden_size,
            len(memory.attended),
            attended=memory.attended,
            weight=layer.self_attn.o_proj.weight,
            hidden=memory.hidden,
            flag=flag,
            ROWS=config.hidden_size,
        )
        adapter = layer.router_proj if place is not None else layer.mlp  # never read where the layer always runs
        yield self._product(
            kernels.widen,
            config.intermediate_size,
            config.hidden_size,
            hidden=memory.hidden,
            norm=layer.post_attention_layernorm.weight,
            eps=config.rms_norm_eps,
            gate_weight=layer.mlp.gate_proj.weight,
            up_weight=layer.mlp.up_proj.weight,
            adapter_gate_weight=adapter.gate_proj.weight,
            adapter_up_weight=adapter.down_proj.weight,  # released names: router.py
            wide=memory.wide,
            flag=flag,
            ROWS=config.intermediate_size,
            ADAPTER_ROWS=config.adapter_width,
        )
        yield self._product(
            kernels.narrow,
            config.hidden_size,
            config.intermediate_size,
            wide=memory.wide,
            weight=layer.mlp.down_proj.weight,
            adapter_weight=adapter.up_proj.weight,
            hidden=memory.hidden,
            flag=flag,
            gate=gate,
            scaled=memory.never if place is None else memory.scaled,
            ROWS=config.hidden_size,
            ADAPTER_COLUMNS=config.adapter_width,
        )

    def _project(self, layer: Any, index: int, *, routed: bool) -> Launch:
        memory, config, attention = self.memory, self.config, layer.self_attn
        key_rows = config.num_key_value_heads * config.head_dim
        query_rows = 0 if routed else len(memory.queries)
        router_rows = config.router_width if routed else 0
        programs = sum(-(-rows // self.tiles.rows) for rows in (key_rows, key_rows, query_rows, router_rows))
        return self._product(
            kernels.project,
            programs * self.tiles.rows,
            config.hidden_size,
            hidden=memory.hidden,
            norm=layer.input_layernorm.weight,
            eps=config.rms_norm_eps,
            query_weight=attention.q_proj.weight,
            key_weight=attention.k_proj.weight,
            value_weight=attention.v_proj.weight,
            router_weight=layer.router.router_enc.weight if routed else attention.q_proj.weight,
            queries=memory.queries,
            keys=memory.keys[index],
            values=memory.values[index],
            reduced=memory.reduced,
            **self._rotation(),
            CAPACITY=memory.capacity,
            KEY_ROWS=key_rows,
            QUERY_ROWS=query_rows,
            ROUTER_ROWS=router_rows,
        )

    def _decide(self, layer: Any, place: int) -> Launch:
        memory, config = self.memory, self.config
        return self._product(
            kernels.decide_and_query,
            len(memory.queries),
            config.hidden_size,
            hidden=memory.hidden,
            norm=layer.input_layernorm.weight,
            eps=config.rms_norm_eps,
            weight=layer.self_attn.q_proj.weight,
            queries=memory.queries,
            reduced=memory.reduced,
            router_norm=layer.router.router_norm.weight,
            router_out=self.folded[place],
            threshold=memory.threshold,
            tape=memory.tape[:, place:],
            gate=memory.gates[place : place + 1],
            executed=memory.executed[place : place + 1],
            flag=memory.flags[place : place + 1],
            **self._rotation(),
            ROUTED=config.num_routed,
            WIDTH=config.router_width,
            WIDTH_STEP=_power(config.router_width),
            TANH_FIRST=config.router_order == "tanh-norm",
            ROWS=len(memory.queries),
        )

    def _attend(self, index: int, flag: Tensor) -> Iterator[Launch]:
        memory, config, tiles = self.memory, self.config, self.tiles
        heads, key_heads, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        found = {"sums": memory.sums, "weights": memory.weights, "peaks": memory.peaks}
        shape = {"WIDTH": width, "WIDTH_STEP": _power(width), "SPLITS": tiles.splits}
        arguments = {
            "queries": memory.queries,
            "keys": memory.keys[index],
            "values": memory.values[index],
            "position": memory.position,
            "scale": width**-0.5,
            "CAPACITY": memory.capacity,
            "GROUP": heads // key_heads,
            "GROUP_STEP": _power(heads // key_heads),
            "BLOCK": tiles.positions,
        }
        yield Launch(kernels.attend, (key_heads, tiles.splits), {**found, **arguments, "flag": flag, **shape})
        yield Launch(kernels.merge, (heads,), {**found, "attended": memory.attended, "flag": flag, **shape})

    def _product(self, kernel: Any, rows: int, columns: int, **arguments: Any) -> Launch:
        """A kernel whose programs each take a few rows of a weight."""
        tiles = self.tiles
        shared = {"COLUMNS": columns, "BLOCK": tiles.rows, "STEP": min(tiles.columns, _power(columns))}
        return Launch(kernel, (-(-rows // tiles.rows),), {**arguments, **shared})

    def _rotation(self) -> dict[str, Any]:
        memory = self.memory
        half = {"HALF": self.config.head_dim // 2}
        return {"cosines": memory.cosines, "sines": memory.sines, "position": memory.position, **half}


def _power(number: int) -> int:
    """The lowest power of two that is no less."""
    return 1 << (number - 1).bit_length()
