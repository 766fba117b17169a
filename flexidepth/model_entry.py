"""One line of the model picker: a model by name, what is known of it without loading it, and whether it can run here.

Values only: knows no torch, no file and no page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class ModelEntry:
    """name: what `flexidepth.load` takes. num_layers, always_on: None until they are known. note: what choosing it
    brings with it, such as a download. reason: why it cannot run on this machine, None when it can.
    """

    name: str
    title: str
    num_layers: int | None = None
    always_on: int | None = None
    threshold: float = 0.5
    note: str = ""
    reason: str | None = None

    @classmethod
    def described(cls, name: str, title: str, config: Any, *, note: str = "", reason: str | None = None) -> Self:
        """config: None, or a FlexiDepth configuration."""
        if config is None:
            return cls(name, title, note=note, reason=reason)
        layers = config.num_hidden_layers
        always_on = layers - len(config.routed_layers or ())
        return cls(name, title, layers, always_on, config.threshold, note, reason)
