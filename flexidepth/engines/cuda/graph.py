"""One run's memory and its token, recorded once as a CUDA graph: replayed for every token, read back through two
pinned buffers in turn. Without a GPU (Triton's interpreter) the same launches run one by one.

Knows launches and memory; knows neither routes nor who chooses tokens.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from flexidepth.engines.cuda.launches import token_launches
from flexidepth.engines.cuda.memory import RunMemory, Tiles
from flexidepth.modeling import FlexiDepthForCausalLM


class TokenGraph:
    """capacity: positions of the run; others as for `token_launches`."""

    def __init__(
        self,
        model: FlexiDepthForCausalLM,
        folded: list[Tensor],
        tiles: Tiles,
        *,
        capacity: int,
        routers: bool,
    ) -> None:
        self.routers = routers
        self.memory = RunMemory(model, capacity, tiles)
        self._launches = token_launches(model, folded, self.memory, tiles, routers=routers)
        self._device = model.device
        on_gpu = self._device.type == "cuda"
        self._reports = [torch.empty(len(self.memory.report), pin_memory=on_gpu) for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)] if on_gpu else []
        self._queued = 0
        self._graph = self._recorded() if on_gpu else None

    def feed(self, token_id: int, position: int) -> None:
        """What the next pass reads, when it is not what the pass before chose."""
        self.memory.token.fill_(token_id)
        self.memory.position.fill_(position)

    def queue(self) -> None:
        """One more pass. Returns at once: the device works on."""
        slot = self._queued % 2
        self._queued += 1
        with self._here():
            if self._graph is None:
                for launch in self._launches:
                    launch()
            else:
                self._graph.replay()
            self._reports[slot].copy_(self.memory.report, non_blocking=True)
            if self._copied:
                self._copied[slot].record()

    def report(self) -> Tensor:
        """What the last queued pass found, as RunMemory.report lays it out; waits for it."""
        slot = (self._queued - 1) % 2
        if self._copied:
            self._copied[slot].synchronize()
        return self._reports[slot].clone()

    def _recorded(self) -> torch.cuda.CUDAGraph:
        with self._here():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for launch in self._launches:  # compiles what has not been yet, which a recording cannot
                    launch()
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for launch in self._launches:
                    launch()
        return graph

    def _here(self) -> Any:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
