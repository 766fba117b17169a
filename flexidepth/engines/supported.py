"""What both compiled engines compute, and what they leave to the reference. Knows configurations; knows no weights."""

from __future__ import annotations

from typing import Any

from flexidepth.errors import EngineError

# Kinds of rotary embedding whose angles do not depend on the sequence.
_FIXED_ROPE = ("default", "linear", "llama3", "yarn")


def refuse_unsupported(config: Any, engine: str) -> None:
    """Raises EngineError for a configuration that the engine called `engine` would compute wrongly."""
    rope_type = (config.rope_parameters or {}).get("rope_type", "default")
    if rope_type not in _FIXED_ROPE:
        raise EngineError(f"the {engine} engine has no rotary embedding of type {rope_type!r}")
    if config.hidden_act != "silu":
        raise EngineError(f"the {engine} engine has no activation {config.hidden_act!r}")
