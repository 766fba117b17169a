"""What a FlexiDepth model is made of, as data. Reads no files and builds no layers.

`FlexiDepthConfig` is a Llama configuration plus the routed layers; `DDLlamaConfig` is the same under the names that
the authors' release uses. Nothing that changes the arithmetic has a default value: a configuration without it is
refused when a model is built from it, because a wrong guess gives text that looks right and is not.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from transformers import LlamaConfig

from flexidepth.errors import ConfigError

GATE_SCALINGS = ("scaled", "hard")
ROUTER_ORDERS = ("norm-tanh", "tanh-norm")

# Keys that tools write beside the architecture and that change nothing in it; those with a leading underscore too.
_BYSTANDERS = frozenset(
    {"architectures", "auto_map", "model_type", "quantization_config", "transformers_version", "unsloth_version"}
    | {"router_penalty", "use_bfloat16", "torchscript", "pruned_heads"}
)


class FlexiDepthConfig(LlamaConfig):
    """A Llama configuration whose `routed_layers` carry a router and an adapter (paper, section 3).

    routed_layers: 0-based indices of the layers with a router.
    router_reduction_factor: hidden size / router width (released: 16).
    adapter_reduction_factor: FFN width / adapter width (released: 16).
    threshold: a token runs a layer when its gate is greater than this.
    gate_scaling: "scaled" multiplies FFN by g and adapter by 1 - g; "hard" multiplies by 1 and trains straight
    through. router_order: "norm-tanh" as in the released code, "tanh-norm" as in the paper's formula.

    Raises ConfigError on unknown keys and on values out of range.
    """

    model_type = "flexidepth"
    keys_to_ignore_at_inference = ["past_key_values", "gates", "executed", "teacher_logits"]  # noqa: RUF012

    routed_layers: list[int] | None = None
    router_reduction_factor: int = 16
    adapter_reduction_factor: int = 16
    threshold: float = 0.5
    gate_scaling: str | None = None
    router_order: str = "norm-tanh"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        own = {f.name for f in fields(self)}
        # Whatever the parent did not use it has turned into an attribute.
        kept = (key for key in kwargs if key in vars(self) and key not in own and not key.startswith("_"))
        unknown = sorted(set(kept) - _BYSTANDERS)
        if unknown:
            raise ConfigError(
                f"unknown configuration keys: {', '.join(unknown)}; correct their names, or delete them if they "
                "do not change the model's arithmetic"
            )
        self._check_values()

    def _check_values(self) -> None:
        if self.routed_layers is not None:
            layers = list(self.routed_layers)
            if layers != sorted(set(layers)) or not layers or layers[0] < 0 or layers[-1] >= self.num_hidden_layers:
                raise ConfigError(
                    f"routed_layers {layers} must be rising layer indices from 0 to {self.num_hidden_layers - 1}"
                )
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold {self.threshold} must lie between 0 and 1")
        if self.gate_scaling is not None and self.gate_scaling not in GATE_SCALINGS:
            raise ConfigError(f"gate_scaling {self.gate_scaling!r} must be one of {', '.join(GATE_SCALINGS)}")
        if self.router_order not in ROUTER_ORDERS:
            raise ConfigError(f"router_order {self.router_order!r} must be one of {', '.join(ROUTER_ORDERS)}")
        for name, width in (
            ("router_reduction_factor", self.hidden_size),
            ("adapter_reduction_factor", self.intermediate_size),
        ):
            factor = getattr(self, name)
            if factor < 1 or width // factor < 1:
                raise ConfigError(f"{name} {factor} must lie between 1 and {width}")

    def require_complete(self) -> None:
        """Raises ConfigError when a value is missing that only the checkpoint can know."""
        missing = [name for name in ("routed_layers", "gate_scaling") if getattr(self, name) is None]
        if missing:
            raise ConfigError(f"the configuration lacks {' and '.join(missing)}: take config.json from the checkpoint")

    @property
    def router_width(self) -> int:
        return self.hidden_size // self.router_reduction_factor

    @property
    def adapter_width(self) -> int:
        return self.intermediate_size // self.adapter_reduction_factor

    @property
    def num_routed(self) -> int:
        return len(self.routed_layers or ())

    @property
    def first_routed(self) -> int:
        """The lowest routed layer: below it every pass equals the base model's."""
        return (self.routed_layers or (self.num_hidden_layers,))[0]

    @property
    def always_on(self) -> int:
        """Layers without a router."""
        return self.num_hidden_layers - self.num_routed

    @classmethod
    def from_base(cls, base: LlamaConfig, **own: Any) -> FlexiDepthConfig:
        """The configuration of `base` with routers. Raises ConfigError when `base` is not of the Llama family."""
        if base.model_type != "llama":
            raise ConfigError(f"the base model is of type {base.model_type!r}: choose a model of type 'llama'")
        shared = {f.name for f in fields(LlamaConfig)} - {"architectures", "transformers_version"}
        values = {key: value for key, value in base.to_dict().items() if key in shared}
        return cls(**values, **own)


class DDLlamaConfig(FlexiDepthConfig):
    """The released checkpoint's configuration: the same model under the authors' key names, always gate-scaled."""

    model_type = "ddllama"

    def __post_init__(self, **kwargs: Any) -> None:
        for released, ours in _RELEASED_NAMES.items():
            if released in kwargs:
                setattr(self, ours, kwargs.pop(released))
        if self.gate_scaling not in (None, "scaled"):
            raise ConfigError("model type 'ddllama' is gate-scaled: use model type 'flexidepth' for hard gates")
        self.gate_scaling = "scaled"
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        for released, ours in _RELEASED_NAMES.items():
            if ours in values:
                values[released] = values.pop(ours)
        return values


_RELEASED_NAMES = {"routing_layers": "routed_layers", "proj_reduction_factor": "adapter_reduction_factor"}
