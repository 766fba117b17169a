"""Trains routers and adapters on a frozen base model: settings in, a checkpoint directory out.

The plain transformers Trainer with a loss of ours. Knows rows of token ids and the model; knows no page and no charts.
Paper, sections 3.3 and 4.1: L = L_lm + alpha * L_skip, loss on all tokens; the objective "distill" replaces L_lm by
the KL divergence to the frozen base model, which teaches more a token.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from flexidepth import checkpoint, data, starting_point
from flexidepth.errors import UsageError
from flexidepth.hidden_cache import HiddenCache, hidden_cache
from flexidepth.losses import distillation_loss, language_model_loss, skip_loss
from flexidepth.modeling import FlexiDepthForCausalLM
from flexidepth.penalty import Penalty
from flexidepth.settings import TrainingSettings
from flexidepth.training_rows import TrainingRows

_PAPER_ROUTED = 16  # the number of routed layers for which the paper gives alpha
_PENALTY_FILE = "penalty.json"
_RECORD_FILE = "training.json"
_START_FILE = "start.json"  # what the fits before the joint stage told, for a run that is resumed
_SUMS = ("fit", "skip", "layers", "tokens")  # over this process's tokens since the last log entry


class FlexiDepthTrainer(Trainer):
    """Trainer whose loss is L_lm (or KL) + alpha * L_skip, and which saves only what trains."""

    def __init__(self, settings: TrainingSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.penalty = Penalty.first(settings)
        routed = self._flexidepth.config.num_routed
        self._penalty_scale = _PAPER_ROUTED / routed if settings.rescale_penalty else 1.0
        self.add_callback(_PenaltyStep(self))
        self._step = torch.zeros(2, dtype=torch.float64)  # executed routed layers and tokens of this optimizer step
        self._sums: defaultdict[str, float] = defaultdict(float)

    @property
    def _flexidepth(self) -> FlexiDepthForCausalLM:
        return cast("FlexiDepthForCausalLM", self.accelerator.unwrap_model(self.model))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Sums over this micro-batch divided by the tokens of the whole batch, so accumulation changes nothing."""
        labels = inputs["labels"]
        counted = labels[:, 1:] != -100  # [B, T-1]: position t predicts token t+1
        tokens = counted.sum()
        total = tokens if num_items_in_batch is None else num_items_in_batch
        distilling = self.settings.objective == "distill"
        positions, weight = self._positions(counted.shape[1]) if model.training and distilling else (slice(0, -1), 1.0)
        outputs = model(
            **self._inputs(inputs, distilling),
            logits_to_keep=torch.arange(labels.shape[1], device=labels.device)[positions],
            sampled=model.training and self.settings.sampled_gates,
            use_cache=False,
        )
        if distilling:
            fit = weight * distillation_loss(outputs.logits, outputs.teacher_logits, counted[:, positions])
        else:
            fit = language_model_loss(outputs.logits, labels[:, 1:].clamp_min(0), counted)
        skip = skip_loss(outputs.gates[:, :-1], counted)
        loss = (fit + self.penalty.value * self._penalty_scale * skip) / total
        if model.training:
            self._note(fit, skip, (outputs.executed[:, :-1].sum(-1) * counted).sum(), tokens)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes  # the mean over processes undoes it
        return (loss, outputs) if return_outputs else loss

    def _inputs(self, inputs: dict[str, Tensor], distilling: bool) -> dict[str, Any]:
        """What the model starts from: token ids, or the hidden states that the frozen half makes of them."""
        if "hidden" not in inputs:
            return {"input_ids": inputs["input_ids"], "with_teacher": distilling}
        model = self._flexidepth
        kept = {"inputs_embeds": inputs["hidden"].to(model.dtype), "first_layer": model.config.first_routed}
        return kept | ({"teacher_hidden_state": inputs["teacher_hidden_state"].to(model.dtype)} if distilling else {})

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with one learning rate for adapters and one for routers, whose common drift moves every token's
        depth.
        """
        if self.optimizer is None:
            wrapped = cast("torch.nn.Module", model or self.model)
            named = [pair for pair in wrapped.named_parameters() if pair[1].requires_grad]
            routers = [parameter for name, parameter in named if ".router." in name]
            adapters = [parameter for name, parameter in named if ".router." not in name]
            groups: list[dict[str, Any]] = [{"params": adapters}, {"params": routers}]
            settings, args = self.settings, self.args
            if settings.router_learning_rate is not None:
                groups[1]["lr"] = settings.router_learning_rate
            self.optimizer = torch.optim.AdamW(
                groups,
                lr=settings.learning_rate,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
                weight_decay=args.weight_decay,
            )
        return self.optimizer

    def _positions(self, length: int) -> tuple[Any, float]:
        """A random share of the positions 0 .. length-1, and the factor that keeps the sum's expectation."""
        kept = max(1, round(length * self.settings.kl_fraction))
        if kept == length:
            return slice(0, length), 1.0
        return torch.randperm(length)[:kept].sort().values.to(self.args.device), length / kept

    def _note(self, fit: Tensor, skip: Tensor, executed: Tensor, tokens: Tensor) -> None:
        always_on = self._flexidepth.config.always_on
        self._step += torch.stack([executed, tokens]).detach().to("cpu", torch.float64)
        for name, value in zip(_SUMS, (fit, skip, executed + always_on * tokens, tokens), strict=True):
            self._sums[name] += float(value.detach())

    def move_penalty(self) -> None:
        """Ends an optimizer step: the penalty of the next one may follow the depth of this one, over all processes."""
        executed, tokens = self.accelerator.reduce(self._step.float().to(self.args.device), reduction="sum").tolist()
        depth = self._flexidepth.config.always_on + executed / max(tokens, 1.0)
        self.penalty = self.penalty.after(self.settings, depth)
        self._step.zero_()

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self._sums["tokens"] and "loss" in logs:
            here = torch.tensor([self._sums[name] for name in _SUMS], device=self.args.device)
            fit, skip, layers, tokens = self.accelerator.reduce(here, reduction="sum").tolist()
            logs["kl_loss" if self.settings.objective == "distill" else "lm_loss"] = fit / tokens
            logs["skip_loss"] = skip / tokens
            logs["mean_layers_used"] = layers / tokens
            logs["penalty"] = self.penalty.value
            self._sums.clear()
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Router and adapter weights in full precision: enough to resume, a hundredth of the whole model."""
        source = self._flexidepth.state_dict() if state_dict is None else state_dict
        kept = {name: tensor for name, tensor in source.items() if ".router" in name}
        super()._save(output_dir, kept)
        if self.args.should_save:  # every process comes here, and the first one alone makes the directory
            (Path(output_dir or self.settings.out) / _PENALTY_FILE).write_text(json.dumps(asdict(self.penalty)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.penalty = Penalty(**json.loads((Path(resume_from_checkpoint) / _PENALTY_FILE).read_text()))


class _PenaltyStep(TrainerCallback):
    def __init__(self, trainer: FlexiDepthTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.trainer.move_penalty()


def recompute_activations(model: FlexiDepthForCausalLM) -> None:
    """Activation checkpointing, non-reentrant: the reentrant kind would cut the gates' gradient, and so the
    penalty's.
    """
    # Renamed in transformers 5.2x; the old name warns there and is the only one before.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def train(settings: TrainingSettings, *, resume: bool = False) -> Path:
    """Runs the whole recipe and returns the checkpoint's directory (`out`); resumable state lies in `out`/state.

    Raises UsageError when there is nothing to resume, or a run that a new one would overwrite.
    """
    set_seed(settings.seed)
    out = Path(settings.out)
    begun = any((out / "state").glob("checkpoint-*"))
    if resume and not begun:
        raise UsageError(f"{out} holds no saved state: leave --resume out to start a run there")
    if begun and not resume:
        raise UsageError(f"{out} holds a run already: go on with --resume, or choose another --out")
    model, tokenizer = starting_point.prepare(settings)
    started = time.monotonic()
    warm_rows, joint_rows = _rows(settings, tokenizer)
    start = _start_of(out) if resume else starting_point.fit(model, warm_rows, joint_rows, settings)
    if PartialState().is_main_process:
        (out / "state").mkdir(parents=True, exist_ok=True)
        (out / "state" / _START_FILE).write_text(json.dumps(start), encoding="utf-8")
    cache = _kept_states(model, joint_rows, settings)

    if settings.checkpointing:
        recompute_activations(model)
    trainer = FlexiDepthTrainer(
        settings,
        model=model,
        args=training_arguments(settings, out / "state"),
        train_dataset=TrainingRows(joint_rows, cache),
    )
    fingerprint = checkpoint.base_fingerprint(model)  # before anything is sharded
    trainer.train(resume_from_checkpoint=True if resume else None)
    state = checkpoint.whole_state(model)
    if trainer.is_world_process_zero():
        record = {
            "settings": asdict(settings),
            "before": _record_of(settings.start_from),
            "start": start,
            "tokens": {
                "warm_start": int(warm_rows.size),
                "joint": _rows_seen(settings) * settings.row_length,
                "different": min(int(joint_rows.size), _rows_seen(settings) * settings.row_length),
            },
            "seconds": time.monotonic() - started,
            "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        }
        checkpoint.save(
            model,
            out,
            base=settings.base,
            training={"tokens": record["tokens"], "seed": settings.seed},
            state=state,
            fingerprint=fingerprint,
        )
        (out / _RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return out


def _start_of(out: Path) -> dict[str, Any]:
    path = out / "state" / _START_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _rows(settings: TrainingSettings, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the regression and of the joint stage, each [N, T]."""
    warm = 0 if settings.start_from else settings.warm_start_steps * settings.batch_rows
    joint = _rows_seen(settings) if settings.rows is None else settings.rows
    data_seed = settings.seed if settings.data_seed is None else settings.data_seed
    rows = data.packed_rows(
        data.mixed(settings.data, data_seed, settings.exercise_share),
        tokenizer,
        row_length=settings.row_length,
        rows=warm + joint,
    )
    return rows[:warm], rows[warm:]


def _rows_seen(settings: TrainingSettings) -> int:
    """Rows that the joint stage reads in all its steps and processes, rows read again counted again."""
    return settings.steps * settings.accumulation * settings.batch_rows * PartialState().num_processes


def _kept_states(model: FlexiDepthForCausalLM, rows: np.ndarray, settings: TrainingSettings) -> HiddenCache | None:
    """The hidden states of the joint stage's rows, made by the first process for all."""
    if settings.hidden_cache is None:
        return None
    directory = Path(settings.hidden_cache)
    with (
        PartialState().main_process_first(),
        tqdm(total=len(rows), unit="row", desc="hidden states", disable=None) as bar,
    ):
        return hidden_cache(
            model,
            rows,
            directory,
            fingerprint=checkpoint.base_fingerprint(model),
            batch_rows=settings.batch_rows,
            report=lambda done, _: bar.update(done - bar.n),
        )


def _record_of(directory: str | None) -> dict[str, Any] | None:
    """The training record of the checkpoint that a run started from, so that a result tells its whole history."""
    path = Path(directory or "") / _RECORD_FILE
    return json.loads(path.read_text(encoding="utf-8")) if directory and path.is_file() else None


def training_arguments(settings: TrainingSettings, out: Path | str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(out),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_rows,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * settings.steps),
        adam_beta2=0.95,
        max_grad_norm=1.0,
        logging_steps=settings.log_every,
        save_steps=settings.save_every,
        save_total_limit=2,
        seed=settings.seed,
        remove_unused_columns=False,
        bf16=settings.dtype == "bfloat16",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
    )
