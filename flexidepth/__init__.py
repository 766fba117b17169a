"""FlexiDepth: every token decides which layers of a Llama-family model it runs through.

Importing this package loads no torch: names resolve on first use, and the model types register themselves with the
Auto classes as soon as those are imported, by whom and whenever that may be.
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
    "TokenStep": "flexidepth.trace",
    "Trace": "flexidepth.trace",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flexidepth' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@when_imported("transformers.models.auto.modeling_auto")
def _register_models(auto: Any) -> None:
    from transformers import AutoConfig

    from flexidepth.configuration import DDLlamaConfig, FlexiDepthConfig
    from flexidepth.modeling import DDLlamaForCausalLM, FlexiDepthForCausalLM

    for config, model in ((FlexiDepthConfig, FlexiDepthForCausalLM), (DDLlamaConfig, DDLlamaForCausalLM)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        auto.AutoModelForCausalLM.register(config, model, exist_ok=True)


@when_imported("transformers.models.auto.configuration_auto")
def _register_configs(_: Any) -> None:
    # Half-way through importing the model classes nothing of transformers can be imported yet; they register both.
    if "transformers.models.auto.modeling_auto" not in sys.modules:
        import_module("transformers.models.auto.modeling_auto")
