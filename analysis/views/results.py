"""What stands below a run that has ended: two figures and its files. Knows traces; knows no model.

Every tab that shows a run has one, its component ids beginning with the tab's name.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.captions import run_caption
from analysis.figures import bowl, gate_map
from analysis.views.export import write_files
from analysis.views.plots import plot_data, save_figure
from flexidepth.trace import Trace


@dataclass(frozen=True)
class Results:
    """The components, in a column that is hidden until there is something to show."""

    column: gr.Column
    gates: gr.Plot
    bowl: gr.Plot
    lines: gr.DownloadButton
    csv: gr.DownloadButton
    html: gr.DownloadButton
    caption: gr.Textbox

    @property
    def all(self) -> list[gr.blocks.Block]:
        """In the order of `shown`."""
        return [self.column, self.gates, self.bowl, self.lines, self.csv, self.html, self.caption]


def build_results(tab: str) -> Results:
    """Lays them out inside the current gr.Blocks."""
    with gr.Column(visible=False, elem_id=f"{tab}-results", elem_classes="fdx-results") as column:
        gr.Markdown(
            "## Figures and downloads\nDrag in a figure to zoom, double-click to zoom out.",
            elem_classes="fdx-results-title",
        )
        with gr.Row(elem_classes="fdx-downloads"):
            lines = gr.DownloadButton("Trace (.jsonl)", size="sm")
            csv = gr.DownloadButton("Table (.csv)", size="sm")
            page = gr.DownloadButton("Coloured text (.html)", size="sm")
            pictures = [
                (figure, kind, gr.Button(f"{name} (.{kind})", size="sm"))
                for figure, name in (("gates", "Gate map"), ("bowl", "Bowl"))
                for kind in ("svg", "png")
            ]
        with gr.Row():
            with gr.Column(scale=3, min_width=420):
                gates = gr.Plot(label="Gates by layer and token", show_label=False, elem_id=f"{tab}-gates-figure")
            with gr.Column(scale=2, min_width=320):
                usage = gr.Plot(label="Tokens processed by each layer", show_label=False, elem_id=f"{tab}-bowl-figure")
        caption = caption_box()
    for figure, kind, button in pictures:
        button.click(None, js=save_figure(f"{tab}-{figure}-figure", f"flexidepth-{figure}", kind))
    return Results(column, gates, usage, lines, csv, page, caption)


def caption_box() -> gr.Textbox:
    """The words for a paper, with a button that copies them."""
    return gr.Textbox(label="Caption", buttons=["copy"], interactive=False, max_lines=4, elem_classes="fdx-caption")


def shown(results: Results, trace: Trace, *, dark: bool) -> dict[Any, Any]:
    """The updates that show a run; its files go to a directory of their own among gradio's, under a name nobody can
    guess.
    """
    directory = Path(results.lines.GRADIO_CACHE) / secrets.token_urlsafe(24)
    directory.mkdir(parents=True)
    files = write_files(trace, directory)
    return {
        results.column: gr.update(visible=True),
        results.gates: plot_data(gate_map(trace, dark=dark), "flexidepth-gates"),
        results.bowl: plot_data(bowl(trace, dark=dark), "flexidepth-bowl"),
        results.lines: str(files.lines),
        results.csv: str(files.csv),
        results.html: str(files.html),
        results.caption: run_caption(trace),
    }
