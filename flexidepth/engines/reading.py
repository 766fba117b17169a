"""How many bytes a token reads: what a step can save by skipping, whoever computes it. Knows shapes and no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerReading:
    """Bytes of one layer. always: keys' and values' projections; run: what else a token that runs it reads, without
    the cache; router and adapter: None for a layer that every token runs.
    """

    always: float
    run: float
    router: float | None = None
    adapter: float | None = None


@dataclass(frozen=True)
class TokenReading:
    """head: of the vocabulary's matrix. position: of one earlier token's key and value in one layer."""

    layers: Sequence[LayerReading]
    head: float
    position: float

    def bytes(self, shares: Sequence[float] | None, positions: float) -> float:
        """Of a token after so many positions. shares: of the tokens that run each routed layer; None for the base
        model, without routers and adapters.
        """
        total = self.head
        place = 0
        for layer in self.layers:
            run = layer.run + self.position * positions
            total += layer.always
            if layer.router is None or layer.adapter is None or shares is None:
                total += run
                continue
            total += layer.router + shares[place] * run + (1 - shares[place]) * layer.adapter
            place += 1
        return total
