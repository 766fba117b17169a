"""The device memory of one run: its keys and values, what a token's kernels pass on, and what the host reads of them.

Knows shapes; knows no kernel and no order of kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flexidepth.modeling import FlexiDepthForCausalLM

LEARNED = -1  # in a tape: the gate decides


@dataclass(frozen=True)
class Tiles:
    """How the kernels share out their work, in powers of two. rows and columns: of a weight, at a time in a program;
    positions: of the cache; splits: stretches of the positions that are attended to side by side.
    """

    rows: int = 8
    columns: int = 512
    positions: int = 16
    splits: int = 32


class RunMemory:
    """Tensors of one run that never move, because a recorded graph knows their addresses. capacity: positions that
    the run may have. R routed layers, H query heads, V tokens, W the width of a head.
    """

    def __init__(self, model: FlexiDepthForCausalLM, capacity: int, tiles: Tiles) -> None:
        config: Any = model.config
        device = model.device
        self.capacity = capacity
        width, heads, routed, vocab = config.head_dim, config.num_attention_heads, config.num_routed, config.vocab_size

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        cache = (config.num_hidden_layers, config.num_key_value_heads, capacity, width)
        self.keys = torch.zeros(cache, device=device, dtype=model.dtype)
        self.values = torch.zeros_like(self.keys)
        self.cosines, self.sines = _rotations(model, capacity)  # [capacity, W / 2]
        self.tape = torch.full((capacity, routed), LEARNED, device=device, dtype=torch.int8)

        self.token = torch.zeros(1, device=device, dtype=torch.int32)  # to be read next, at
        self.position = torch.zeros(1, device=device, dtype=torch.int32)
        self.threshold = floats(1)
        self.scaled = torch.zeros(1, device=device, dtype=torch.int32)  # whether gates weigh what they choose
        self.flags = torch.zeros(routed, device=device, dtype=torch.int32)  # 1: this token runs the layer

        self.hidden = floats(config.hidden_size)
        self.queries = floats(heads * width)
        self.reduced = floats(config.router_width)
        self.sums = floats(heads, tiles.splits, width)
        self.weights = floats(heads, tiles.splits)
        self.peaks = floats(heads, tiles.splits)
        self.attended = floats(heads * width)
        self.wide = floats(config.intermediate_size)
        programs = -(-vocab // tiles.rows)
        self.best = floats(programs)
        self.best_row = torch.zeros(programs, device=device, dtype=torch.int32)

        self.report = floats(vocab + 2 * routed + 1)  # all that the host reads, in one copy
        self.logits, self.gates, self.executed, self.guess = self.report.split([vocab, routed, routed, 1])

        # A layer without a router runs, and nothing weighs it.
        self.always = torch.ones(1, device=device, dtype=torch.int32)
        self.never = torch.zeros(1, device=device, dtype=torch.int32)
        self.one = torch.ones(1, device=device)


def _rotations(model: FlexiDepthForCausalLM, capacity: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines as the model makes them, in float32; a head's second half repeats the first."""
    places = torch.arange(capacity, device=model.device)[None]
    cosines, sines = model.model.rotary_emb(torch.zeros(1, device=model.device), position_ids=places)
    half = cosines.shape[-1] // 2
    return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()
