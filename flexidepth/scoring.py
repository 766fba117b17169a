"""How far a routed model is from its base on given text, teacher-forced. Knows text files and the model; generates
nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth.controls import drawn_tape, least_harmful, static_rates
from flexidepth.data import mixed, token_ids
from flexidepth.errors import UsageError
from flexidepth.modeling import FlexiDepthForCausalLM

HELD_OUT = "held-out:"
_HELD_OUT_DOCUMENTS = 100
_CALIBRATION_TOKENS = 1024  # on which the static control chooses its layers, a favour to it: they are scored too
CONTROLS = ("random", "static", "static-equal")
ROUTES = ("learned", "all", "none", *CONTROLS)
WINDOW = 512  # tokens a forward pass; longer documents are scored window by window


@dataclass(frozen=True)
class Score:
    """Means over every predicted token; nll and KL in nats a token."""

    documents: int
    tokens: int
    nll: float
    base_nll: float
    kl_to_base: float
    mean_layers_used: float
    std_layers_used: float
    num_layers: int
    per_layer_usage: list[float]  # [L] share of the tokens that each layer processed
    routes: str
    threshold: float
    model: str
    source: str  # what was scored, as it was asked for
    # 0-based layers of the static controls as they were chosen; "static-equal" skips the last for a share of tokens
    always_skipped: list[int] = field(default_factory=list)


def read_documents(source: str | Path, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each document: a line of text, or a JSON line with "text" or with chat "messages".

    "held-out:DATA" takes the first hundred conversations of training data that are kept from training (data.py), each
    cut at one window. Raises UsageError, with the line's number, on what is none of these.
    """
    if str(source).startswith(HELD_OUT):
        kept = mixed(str(source).removeprefix(HELD_OUT), seed=0, exercise_share=0.0, held_out=True)
        return [token_ids(item, tokenizer)[: WINDOW + 1] for item in islice(kept, _HELD_OUT_DOCUMENTS)]
    path = Path(source)
    if not path.is_file():
        raise UsageError(f"no file at {path}: give a text file with one document a line, or JSON lines")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}: convert it to UTF-8") from None
    documents = [
        ids
        for number, line in enumerate(lines, start=1)
        if line.strip() and len(ids := _document(line, f"{path} line {number}", tokenizer)) > 1
    ]
    if not documents:
        raise UsageError(f"{path} holds no document of two tokens or more: give some text to score")
    return documents


def _document(line: str, place: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if not line.lstrip().startswith("{"):
        return tokenizer(line)["input_ids"]
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} starts like JSON and is none ({error.msg}): correct it") from None
    if isinstance(record.get("text"), str):
        return tokenizer(record["text"])["input_ids"]
    if isinstance(record.get("messages"), list):
        return token_ids(record["messages"], tokenizer)
    raise UsageError(f'{place} has neither "text" nor "messages": add one')


@torch.inference_mode()
def score(
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    source: str | Path,
    *,
    routes: str = "learned",
    threshold: float | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Score:
    """Scores a text file. report is told (passes done, passes). threshold: in place of the checkpoint's. seed: of the
    draws of the controls.

    The controls (controls.py) first read the text once with learned routes, for the rates that they match. Raises
    UsageError on an unreadable file and on a threshold outside 0..1.
    """
    if routes not in ROUTES:
        raise UsageError(f"routes {routes!r} must be one of {', '.join(ROUTES)}")
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise UsageError(f"threshold must lie between 0 and 1, not {threshold}")
    documents = read_documents(source, tokenizer)
    windows = [torch.tensor([window], device=model.device) for ids in documents for window in _windows(ids)]
    passes = len(windows) * (2 if routes in CONTROLS else 1)
    tapes, skipped = _tapes(model, windows, routes, threshold, seed, lambda done: report(done, passes))
    sums: dict[str, float] = dict.fromkeys(("tokens", "nll", "base_nll", "kl", "depth", "depth_squared"), 0.0)
    executed = torch.zeros(model.config.num_routed, dtype=torch.float64)
    for done, (ids, tape) in enumerate(zip(windows, tapes, strict=True), start=passes - len(windows) + 1):
        counts = _window_sums(model, ids, tape, threshold)
        for name in sums:
            sums[name] += counts[name]
        executed += counts["executed"]
        report(done, passes)
    tokens = sums["tokens"]
    mean = sums["depth"] / tokens
    return Score(
        documents=len(documents),
        tokens=int(tokens),
        nll=sums["nll"] / tokens,
        base_nll=sums["base_nll"] / tokens,
        kl_to_base=sums["kl"] / tokens,
        mean_layers_used=mean,
        std_layers_used=max(0.0, sums["depth_squared"] / tokens - mean**2) ** 0.5,
        num_layers=model.config.num_hidden_layers,
        per_layer_usage=_usage(model, executed / tokens),
        routes=routes,
        threshold=model.config.threshold if threshold is None else threshold,
        model=str(model.name_or_path),
        source=str(source),
        always_skipped=skipped,
    )


def _tapes(
    model: FlexiDepthForCausalLM,
    windows: Sequence[Tensor],
    routes: str,
    threshold: float | None,
    seed: int,
    report: Callable[[int], None],
) -> tuple[list[str | Tensor], list[int]]:
    """What each window's pass is given as routes, and the layers that the static controls skip."""
    if routes not in CONTROLS:
        return [routes] * len(windows), []
    ran = torch.zeros(model.config.num_routed, dtype=torch.float64)
    for done, ids in enumerate(windows, start=1):
        outputs = model(ids[:, :-1], threshold=threshold, use_cache=False, logits_to_keep=1)
        ran += outputs.executed[0].sum(0).double().cpu()
        report(done)
    rates = ran / sum(ids.shape[1] - 1 for ids in windows)
    chosen: list[int] = []
    if routes != "random":
        count = (1 - rates).sum().item()
        count = round(count) if routes == "static" else count
        chosen = least_harmful(model, list(_first_tokens(windows, _CALIBRATION_TOKENS)), math.ceil(count))
        rates = static_rates(chosen, len(rates), count)
    generator = torch.Generator().manual_seed(seed)
    tapes = [drawn_tape(rates, (1, ids.shape[1] - 1), generator).to(model.device) for ids in windows]
    return list(tapes), [(model.config.routed_layers or [])[number] for number in chosen]


def _first_tokens(windows: Sequence[Tensor], tokens: int) -> Iterator[Tensor]:
    """Whole windows until there are so many tokens."""
    for ids in windows:
        if tokens <= 0:
            return
        yield ids[:, :-1]
        tokens -= ids.shape[1] - 1


def _usage(model: FlexiDepthForCausalLM, rates: Tensor) -> list[float]:
    usage = torch.ones(model.config.num_hidden_layers, dtype=torch.float64)
    usage[model.config.routed_layers] = rates
    return usage.tolist()


def _windows(ids: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids) - 1, WINDOW):
        yield ids[first : first + WINDOW + 1]


def _window_sums(
    model: FlexiDepthForCausalLM, ids: Tensor, routes: str | Tensor, threshold: float | None
) -> dict[str, Any]:
    """Sums over the predictions of one window. ids: [1, T + 1]"""
    inputs, targets = ids[:, :-1], ids[0, 1:]
    outputs = model(inputs, routes=routes, threshold=threshold, use_cache=False)
    base = F.log_softmax(model(inputs, routes="all", use_cache=False).logits[0].float(), dim=-1)  # [T, V]
    routed = F.log_softmax(outputs.logits[0].float(), dim=-1)
    depth = model.config.always_on + outputs.executed[0].sum(-1).double()  # [T]
    return {
        "tokens": len(targets),
        "nll": F.nll_loss(routed, targets, reduction="sum").item(),
        "base_nll": F.nll_loss(base, targets, reduction="sum").item(),
        "kl": F.kl_div(routed, base, log_target=True, reduction="sum").item(),
        "depth": depth.sum().item(),
        "depth_squared": depth.square().sum().item(),
        "executed": outputs.executed[0].sum(0).double().cpu(),
    }
