"""The Library tab: recorded runs and a visitor's own files, drawn as live runs are. Needs no model.

What a visitor opens stays in that visitor's session.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.glyphs import visible
from analysis.library import Entry, read_file, recorded_entries
from analysis.views.results import build_results, shown
from analysis.views.token_view import token_view, view_value
from flexidepth.errors import TraceError
from flexidepth.trace import Trace

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def build_library(tab: gr.Tab) -> None:
    """Lays out what is inside `tab`, and connects it."""
    recorded = recorded_entries()
    with gr.Row(elem_classes="fdx-page"):
        with gr.Column(scale=4, min_width=300, elem_classes="fdx-compose"):
            choice = gr.Dropdown(
                _choices(recorded), value=0 if recorded else None, label="Run", elem_id="library-choice"
            )
            files = gr.UploadButton(
                "Open trace files (.jsonl)", file_count="multiple", file_types=[".jsonl"], elem_id="library-open"
            )
            about = gr.HTML(_about(None), elem_id="library-about", apply_default_css=False)
            gr.Markdown(
                "Files that you open are shown to nobody else and deleted within about an hour. The Run tab saves "
                "one run a file, `python -m analysis run` many.",
                elem_classes="fdx-note",
            )
        with gr.Column(scale=11, min_width=320):
            view = token_view(elem_id="library-view")
    results = build_results("library")
    held = gr.State([], time_to_live=3600)  # what this visitor opened
    dark = gr.Checkbox(visible=False)
    theme_now = "(...given) => [...given.slice(0, -1), document.body.classList.contains('dark')]"

    def show(own: list[Entry], number: int | None, dark: bool) -> dict[Any, Any]:
        entries = [*recorded, *own]
        if number is None or not 0 <= number < len(entries):
            return {view: "", about: _about(None), results.column: gr.update(visible=False)}
        entry = entries[number]
        drawn = {view: view_value(entry.trace.to_lines()), about: _about(entry)}
        return drawn | shown(results, entry.trace, dark=dark)

    def open_files(own: list[Entry], paths: list[str], dark: bool) -> dict[Any, Any]:
        added: list[Entry] = []
        for path in map(Path, paths):
            try:
                added += read_file(path, path.name)
            except TraceError as error:
                gr.Warning(html.escape(visible(str(error), " ")), title="Not opened", duration=None)
        if not added:
            return {held: own}
        first, own = len(recorded) + len(own), [*own, *added]
        chosen = {choice: gr.update(choices=_choices([*recorded, *own]), value=first)}
        return {held: own} | chosen | show(own, first, dark)

    drawn = [view, about, *results.all]
    gr.on(
        [tab.select, choice.input],
        show,
        [held, choice, dark],
        drawn,
        js=theme_now,
        trigger_mode="always_last",
        **_QUIET,
    )
    files.upload(open_files, [held, files, dark], [held, choice, *drawn], js=theme_now, **_QUIET)


def _choices(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    return [(visible(entry.title, " "), number) for number, entry in enumerate(entries)]


def _about(entry: Entry | None) -> str:
    """Where a run is from and what made it."""
    if entry is None:
        return "<p class='fdx-about'>Choose a recorded run, or open your own.</p>"
    trace: Trace = entry.trace
    header = trace.header
    rows = (
        ("Source", entry.source),
        ("Prompt", header.prompt),
        ("Model", f"{header.model}, checkpoint {header.checkpoint}"),
        (
            "Settings",
            f"threshold {header.threshold:g}, routes {header.routes}, temperature {header.temperature:g}, "
            f"seed {header.seed}",
        ),
    )
    shown_rows = "".join(f"<dt>{name}</dt><dd>{html.escape(visible(value, ' '))}</dd>" for name, value in rows)
    return f"<p class='fdx-badge'>Recorded, not live</p><dl class='fdx-about'>{shown_rows}</dl>"
