"""The models of the page: one to choose, and under it those that this machine cannot run, each opening its reason.

Knows entries; loads no model.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from analysis.glyphs import visible
from flexidepth.model_entry import ModelEntry


@dataclass(frozen=True)
class Picker:
    model: gr.Dropdown
    missing: gr.HTML


def build_picker(entries: Sequence[ModelEntry], chosen: str) -> Picker:
    """Lays it out inside the current gr.Blocks."""
    with gr.Column(scale=4, min_width=300, elem_id="fdx-picker"):
        model = gr.Dropdown(
            _choices(entries),
            value=runnable(entries, chosen),
            label="Model",
            elem_id="fdx-model",
            filterable=False,
        )
        missing = gr.HTML(_missing(entries), elem_id="fdx-missing", apply_default_css=False, padding=False)
    return Picker(model, missing)


def refreshed(picker: Picker, entries: Sequence[ModelEntry]) -> dict[Any, Any]:
    """The updates that show what can be run now."""
    return {picker.model: gr.update(choices=_choices(entries)), picker.missing: _missing(entries)}


def runnable(entries: Sequence[ModelEntry], chosen: str) -> str | None:
    """The chosen model's name if it can run, else that of the first one that can."""
    names = [entry.name for entry in entries if entry.reason is None]
    return chosen if chosen in names else next(iter(names), None)


def _choices(entries: Sequence[ModelEntry]) -> list[tuple[str, str]]:
    return [(_label(entry), entry.name) for entry in entries if entry.reason is None]


def _label(entry: ModelEntry) -> str:
    title = visible(entry.title, " ")
    return f"{title} ({entry.note})" if entry.note else title


def _missing(entries: Sequence[ModelEntry]) -> str:
    absent = [entry for entry in entries if entry.reason is not None]
    if not absent:
        return ""
    names = ", ".join(html.escape(visible(entry.title, " ")) for entry in absent)
    reasons = "".join(
        f"<li><b>{html.escape(visible(entry.title, ' '))}</b> {html.escape(visible(entry.reason or '', ' '))}</li>"
        for entry in absent
    )
    return f"<details><summary>Not on this machine: {names}</summary><ul>{reasons}</ul></details>"
