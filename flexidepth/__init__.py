"""FlexiDepth: every token decides which layers of a Llama-family model it runs through.

Importing this package loads no torch: names resolve on first use, and the Auto classes know the model types, whoever
imports them, whenever.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    from flexidepth.checkpoint import load as load
    from flexidepth.generation import generate as generate
    from flexidepth.generation import stream as stream

_HOMES = {
    "load": "flexidepth.checkpoint",
    "stream": "flexidepth.generation",
    "generate": "flexidepth.generation",
    "FlexiDepthConfig": "flexidepth.configuration",
    "FlexiDepthForCausalLM": "flexidepth.modeling",
    "DDLlamaConfig": "flexidepth.configuration",
    "DDLlamaForCausalLM": "flexidepth.modeling",
    "TokenStep": "flexidepth.trace",
    "Trace": "flexidepth.trace",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flexidepth' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


# transformers resolves its own model types by name on first use, from modules transformers.models.TYPE. Ours join that
# table: a class registered at import would have to be imported then, maybe half-way through the import of its bases.
_MODEL_TYPES = {
    "flexidepth": ("FlexiDepthConfig", "FlexiDepthForCausalLM"),
    "ddllama": ("DDLlamaConfig", "DDLlamaForCausalLM"),
}


@when_imported("transformers.models.auto.configuration_auto")
def _name_configs(auto: Any) -> None:
    for model_type, (config, _) in _MODEL_TYPES.items():
        sys.modules[f"transformers.models.{model_type}"] = sys.modules[__name__]
        auto.CONFIG_MAPPING_NAMES[model_type] = config


@when_imported("transformers.models.auto.modeling_auto")
def _name_models(auto: Any) -> None:
    for model_type, (config, model) in _MODEL_TYPES.items():
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type] = model
        # Made from the configurations' names; without ours when transformers was imported first.
        auto.MODEL_FOR_CAUSAL_LM_MAPPING._reverse_config_mapping[config] = model_type
