"""Recorded runs in the shape of the authors' FlexiPatterns release: one JSON line a run, with a data card.

`datasets.load_dataset("json", data_files=...)` reads the lines. Knows no torch and no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.recorded import Recorded
from flexidepth.trace import TraceHeader

DATA_FILE = "patterns.jsonl"
CARD_FILE = "README.md"


def write_patterns(runs: Iterable[Recorded], directory: Path) -> Path:
    """Writes the lines and their card into `directory`; returns the lines' path."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = 0
    header: TraceHeader | None = None
    with (directory / DATA_FILE).open("w", encoding="utf-8") as file:
        for run in runs:
            header = run.trace.header
            file.write(json.dumps(pattern(run)) + "\n")
            rows += 1
    if header is not None:
        (directory / CARD_FILE).write_text(_card(header, rows), encoding="utf-8")
    return directory / DATA_FILE


def pattern(run: Recorded) -> dict[str, Any]:
    """prompt, task, tokens, token_ids, layers_used and masks: a string a token, one 0 or 1 a routed layer."""
    steps = run.trace.generated
    return {
        "task": run.prompt.task,
        "prompt_id": run.prompt.number,
        "prompt": run.trace.header.prompt,
        "tokens": [step.text for step in steps],
        "token_ids": [step.token_id for step in steps],
        "layers_used": [step.layers_used for step in steps],
        "masks": ["".join("1" if ran else "0" for ran in step.executed) for step in steps],
    }


def _card(header: TraceHeader, rows: int) -> str:
    routed = ", ".join(str(layer) for layer in header.routed_layers)
    return f"""---
license: apache-2.0
task_categories: [text-generation]
tags: [flexidepth, adaptive-computation, layer-skipping]
configs:
- config_name: default
  data_files: {DATA_FILE}
---

# Layers used by `{header.model}`, token by token

{rows} greedy or sampled answers of a FlexiDepth model ([arXiv 2503.23798](https://arxiv.org/abs/2503.23798)), made by
`python -m analysis run` and written by `python -m analysis report`.

| column | meaning |
|---|---|
| task, prompt_id | the task and the number of its input, which is the same in every task of a kind |
| prompt | what was asked, before the chat template |
| tokens, token_ids | the answer; a token that finishes no character has an empty text |
| layers_used | layers of the forward pass that produced the token, of {header.num_layers} |
| masks | for each token one character a routed layer, 1 where it ran; layers from 0: {routed} |

Checkpoint {header.checkpoint}, threshold {header.threshold:g}, routes {header.routes}, seed {header.seed},
temperature {header.temperature:g}, at most {header.max_new_tokens} new tokens, engine {header.engine}, {header.dtype}.
"""
