"""The FlexiDepth model: a Llama stack in which some layers are routed. Knows no files, no text and no training loop.

`routes` says who decides: "learned" (the routers), "all" (every routed layer runs with factor 1: the untouched base
model), "none" (every routed layer is skipped), or a route tape, a bool tensor [B, T, R].
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import Cache
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)
from transformers.utils.generic import can_return_tuple

from flexidepth.configuration import DDLlamaConfig, FlexiDepthConfig
from flexidepth.errors import CheckpointError, UsageError
from flexidepth.layer import FlexiDepthDecoderLayer, LayerRoute

ROUTES = ("learned", "all", "none")


@dataclass
class FlexiDepthModelOutput(BaseModelOutputWithPast):
    """gates: [B, T, R] float32. executed: [B, T, R] bool. teacher_hidden_state: [B, T, D], the base model's last
    one.
    """

    gates: Tensor | None = None
    executed: Tensor | None = None
    teacher_hidden_state: Tensor | None = None


@dataclass
class FlexiDepthCausalLMOutput(CausalLMOutputWithPast):
    """logits: [B, T, V]. gates: [B, T, R] float32. executed: [B, T, R] bool. teacher_logits: like logits, without
    gradient.
    """

    gates: Tensor | None = None
    executed: Tensor | None = None
    teacher_logits: Tensor | None = None


class FlexiDepthPreTrainedModel(LlamaPreTrainedModel):
    config: FlexiDepthConfig
    config_class = FlexiDepthConfig
    _no_split_modules = ["FlexiDepthDecoderLayer", "LlamaDecoderLayer"]  # noqa: RUF012
    # Named one by one: the match is by substring, and a plain "router" would lift the adapter (router_proj) too.
    _keep_in_fp32_modules_strict = ["router_enc", "router_norm", "router_dec", "router_head"]  # noqa: RUF012
    _can_compile_fullgraph = False  # a layer branches on its gates
    _can_record_outputs: dict[str, Any] = {}  # noqa: RUF012 - gates and hidden states are collected in the open, below

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but a checkpoint whose router tensors are missing, extra or misshapen is refused."""
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        with _without_load_report():
            loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model, info = loaded
        refuse_misfits(info, pretrained_model_name_or_path)
        return (model, info) if wants_info else model

    @classmethod
    def from_base(cls, base_directory: Any, **kwargs: Any) -> Any:
        """A base model's weights in this architecture; routers and adapters, which it lacks, are freshly
        initialised.
        """
        with _without_load_report():
            loaded: Any = super().from_pretrained(base_directory, output_loading_info=True, **kwargs)
        model, info = loaded
        refuse_misfits(info, base_directory, allow_missing_routers=True)
        return model


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Keeps transformers from warning about missing routers, page-long: `refuse_misfits` decides, and says it in one
    line.
    """

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def refuse_misfits(info: dict[str, Any], source: Any, *, allow_missing_routers: bool = False) -> None:
    """Raises CheckpointError with the names when a load left tensors missing, over or of another shape."""
    missing = {key for key in info["missing_keys"] if not (allow_missing_routers and ".router" in key)}
    problems = {
        "missing": sorted(missing),
        "unexpected": sorted(info["unexpected_keys"]),
        "of another shape": sorted(
            str(entry[0] if isinstance(entry, tuple) else entry) for entry in info["mismatched_keys"]
        ),
    }
    named = [f"{kind}: {_shortened(keys)}" for kind, keys in problems.items() if keys]
    if named:
        raise CheckpointError(
            f"{source} does not hold this model's tensors ({'; '.join(named)}); "
            "check that config.json belongs to the weights"
        )


def _shortened(keys: list[str], most: int = 6) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


class FlexiDepthModel(FlexiDepthPreTrainedModel):
    """Embeddings, decoder layers and final norm. Raises ConfigError when the configuration is incomplete."""

    def __init__(self, config: FlexiDepthConfig) -> None:
        config.require_complete()
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        routed = set(config.routed_layers or ())
        self.layers = nn.ModuleList(
            FlexiDepthDecoderLayer(config, index) if index in routed else LlamaDecoderLayer(config, index)
            for index in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        routes: str | Tensor = "learned",
        threshold: float | None = None,
        dense: bool = False,
        with_teacher: bool = False,
        sampled: bool = False,
        first_layer: int = 0,
        **kwargs: Any,
    ) -> FlexiDepthModelOutput:
        """[B, T] ids -> last hidden state [B, T, D], gates and executed [B, T, R].

        threshold overrides the configuration's for this pass only. with_teacher also carries the base model's hidden
        states through the routed layers (they share everything below), for distillation. sampled draws learned routes
        with the gates as probabilities. first_layer starts the pass there: inputs_embeds are then the hidden states
        that enter that layer. Raises UsageError on bad routes.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("give exactly one of input_ids and inputs_embeds")
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds  # [B, T, D]
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None and not self.training:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(hidden.shape[1], device=hidden.device) + seen).unsqueeze(0)
        shared = {
            "attention_mask": create_causal_mask(
                config=self.config,
                inputs_embeds=hidden,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
            ),
            "position_embeddings": self.rotary_emb(hidden, position_ids=position_ids),
            "position_ids": position_ids,
            "use_cache": use_cache,
            **kwargs,
        }
        route_of = _routing(self.config, routes, threshold, dense, sampled, hidden)

        teacher: Tensor | None = None
        all_hidden = [hidden]
        gates: list[Tensor] = []
        executed: list[Tensor] = []
        for layer in islice(self.layers, first_layer, None):
            if not isinstance(layer, FlexiDepthDecoderLayer):
                hidden = layer(hidden, past_key_values=past_key_values, **shared)
                if teacher is not None:
                    with torch.no_grad():
                        teacher = layer(teacher, **shared)
            else:
                if with_teacher:
                    with torch.no_grad():
                        unrouted = LayerRoute(0.0, torch.ones_like(hidden[..., 0], dtype=torch.bool), unscaled=True)
                        teacher = layer(hidden if teacher is None else teacher, unrouted, **shared)[0]
                hidden, gate, run = layer(hidden, route_of(len(gates)), past_key_values=past_key_values, **shared)
                gates.append(gate)
                executed.append(run)
            all_hidden.append(hidden)

        hidden = self.norm(hidden)
        all_hidden[-1] = hidden  # as in transformers: the last entry is the normalised one
        home = gates[0].device  # under a device map each gate sits on its layer's device
        return FlexiDepthModelOutput(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=tuple(all_hidden) if output_hidden_states else None,
            gates=torch.stack([gate.to(home) for gate in gates], dim=-1),  # [B, T, R]
            executed=torch.stack([run.to(home) for run in executed], dim=-1),
            teacher_hidden_state=None if teacher is None else self.norm(teacher).detach(),
        )


def _routing(
    config: FlexiDepthConfig,
    routes: str | Tensor,
    threshold: float | None,
    dense: bool,
    sampled: bool,
    hidden: Tensor,
) -> Callable[[int], LayerRoute]:
    """Routed-layer number (0 .. R-1) -> how that layer chooses in this pass."""
    limit = config.threshold if threshold is None else threshold
    if not 0.0 <= limit <= 1.0:
        raise UsageError(f"threshold {limit} must lie between 0 and 1")
    rows = hidden.shape[:2]
    if isinstance(routes, str):
        if routes not in ROUTES:
            raise UsageError(f"routes {routes!r} must be one of {', '.join(ROUTES)}, or a route tape [B, T, R]")
        if routes == "learned":
            return lambda _: LayerRoute(limit, dense=dense, sampled=sampled)
        forced = torch.full(rows, routes == "all", dtype=torch.bool, device=hidden.device)
        return lambda _: LayerRoute(limit, forced, unscaled=routes == "all", dense=dense)
    expected = (*rows, config.num_routed)
    if tuple(routes.shape) != expected or routes.dtype != torch.bool:
        raise UsageError(
            f"a route tape must be a bool tensor {list(expected)}, not {routes.dtype} {list(routes.shape)}"
        )
    return lambda routed: LayerRoute(limit, routes[..., routed].to(hidden.device), dense=dense)


class FlexiDepthForCausalLM(FlexiDepthPreTrainedModel, GenerationMixin):
    """FlexiDepth with a language-model head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: FlexiDepthConfig) -> None:
        super().__init__(config)
        self.model = FlexiDepthModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        routes: str | Tensor = "learned",
        threshold: float | None = None,
        dense: bool = False,
        with_teacher: bool = False,
        sampled: bool = False,
        first_layer: int = 0,
        teacher_hidden_state: Tensor | None = None,
        **kwargs: Any,
    ) -> FlexiDepthCausalLMOutput:
        """[B, T] ids -> logits [B, T, V], gates [B, T, R] float32, executed [B, T, R] bool.

        teacher_hidden_state [B, T, D], kept from an earlier pass, takes the place of with_teacher. loss, given
        labels, is the language-model loss alone: the skip loss belongs to training (losses.py).
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            routes=routes,
            threshold=threshold,
            dense=dense,
            with_teacher=with_teacher,
            sampled=sampled,
            first_layer=first_layer,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        teacher = outputs.teacher_hidden_state if teacher_hidden_state is None else teacher_hidden_state
        teacher_logits = None
        if teacher is not None:
            with torch.no_grad():
                teacher_logits = self.lm_head(teacher[:, kept])
        return FlexiDepthCausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            gates=outputs.gates,
            executed=outputs.executed,
            teacher_logits=teacher_logits,
        )


class DDLlamaForCausalLM(FlexiDepthForCausalLM):
    """The same model under the released model type; Auto classes tell models apart by their configuration's class."""

    config: DDLlamaConfig
    config_class = DDLlamaConfig
