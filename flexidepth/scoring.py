"""How far a routed model is from its base on given text, teacher-forced. Knows text files and the model; generates
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth.data import mixed, token_ids
from flexidepth.errors import UsageError
from flexidepth.modeling import FlexiDepthForCausalLM

HELD_OUT = "held-out:"
_HELD_OUT_DOCUMENTS = 100
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
    model: str


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
    report: Callable[[int, int], None] = lambda *_: None,
) -> Score:
    """Scores a text file. report is told (documents done, documents). Raises UsageError on an unreadable file."""
    documents = read_documents(source, tokenizer)
    layers = model.config.num_hidden_layers
    sums: dict[str, float] = dict.fromkeys(("tokens", "nll", "base_nll", "kl", "depth", "depth_squared"), 0.0)
    executed = torch.zeros(model.config.num_routed, dtype=torch.float64)
    for done, ids in enumerate(documents):
        for window in _windows(ids):
            counts = _window_sums(model, torch.tensor([window], device=model.device), routes)
            for name in sums:
                sums[name] += counts[name]
            executed += counts["executed"]
        report(done + 1, len(documents))
    tokens = sums["tokens"]
    usage = torch.ones(layers, dtype=torch.float64)
    usage[model.config.routed_layers] = executed / tokens
    mean = sums["depth"] / tokens
    return Score(
        documents=len(documents),
        tokens=int(tokens),
        nll=sums["nll"] / tokens,
        base_nll=sums["base_nll"] / tokens,
        kl_to_base=sums["kl"] / tokens,
        mean_layers_used=mean,
        std_layers_used=max(0.0, sums["depth_squared"] / tokens - mean**2) ** 0.5,
        num_layers=layers,
        per_layer_usage=usage.tolist(),
        routes=routes,
        model=str(model.name_or_path),
    )


def _windows(ids: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids) - 1, WINDOW):
        yield ids[first : first + WINDOW + 1]


def _window_sums(model: FlexiDepthForCausalLM, ids: Tensor, routes: str) -> dict[str, Any]:
    """Sums over the predictions of one window. ids: [1, T + 1]"""
    inputs, targets = ids[:, :-1], ids[0, 1:]
    outputs = model(inputs, routes=routes, use_cache=False)
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
