"""The page's layout: every component, by name, and what it shows before a run. Knows no model and no event."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from analysis.glyphs import visible
from analysis.tasks import TASKS, samples, task_named
from analysis.views.token_view import token_view

FIRST_TASK = "chat"
MAX_NEW_TOKENS = 1024


@dataclass(frozen=True)
class ModelFacts:
    """What the page says about the model it serves."""

    name: str
    num_layers: int
    routed: int
    threshold: float


@dataclass(frozen=True)
class Page:
    """The components that events read and write."""

    task: gr.Radio
    sample: gr.Dropdown
    prompt: gr.Textbox
    run: gr.Button
    stop: gr.Button
    max_new_tokens: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    seed: gr.Number
    threshold: gr.Slider
    chat: gr.Checkbox
    view: gr.HTML
    results: gr.Column
    gates: gr.Plot
    bowl: gr.Plot
    lines: gr.DownloadButton
    csv: gr.DownloadButton
    html: gr.DownloadButton
    gates_png: gr.Button
    bowl_png: gr.Button
    trace: gr.State
    dark: gr.Checkbox

    @property
    def settings(self) -> list[gr.components.Component]:
        """In the order that a run takes them."""
        return [
            self.prompt,
            self.max_new_tokens,
            self.temperature,
            self.top_p,
            self.seed,
            self.threshold,
            self.chat,
        ]


def build_page(facts: ModelFacts) -> Page:
    """Lays out the page inside the current gr.Blocks."""
    gr.HTML(_title(facts), elem_id="fdx-title", apply_default_css=False, padding=False)
    with gr.Row(elem_id="fdx-page"):
        with gr.Column(scale=4, min_width=300, elem_id="fdx-compose"):
            compose = _compose(facts)
        with gr.Column(scale=11, min_width=320):
            view = token_view(
                always_on=facts.num_layers - facts.routed, num_layers=facts.num_layers, elem_id="fdx-view"
            )
    results = _results()
    return Page(
        **compose, view=view, **results, trace=gr.State(None, time_to_live=3600), dark=gr.Checkbox(visible=False)
    )


def _compose(facts: ModelFacts) -> dict[str, Any]:
    first = task_named(FIRST_TASK)
    offered = samples(first)
    task = gr.Radio([(each.label, each.name) for each in TASKS], value=first.name, label="Task", elem_id="fdx-task")
    sample = gr.Dropdown(
        [(each.title, each.title) for each in offered],
        value=offered[0].title,
        label="Example",
        elem_id="fdx-sample",
        filterable=False,
    )
    prompt = gr.Textbox(
        first.prompt(offered[0]),
        label="Prompt",
        info="Enter runs it, Shift+Enter starts a new line",
        placeholder="Ask something, or choose a task above",
        lines=1,
        max_lines=9,
        autofocus=True,
        elem_id="fdx-prompt",
    )
    with gr.Row():
        run = gr.Button("Run", variant="primary", min_width=80, elem_id="fdx-run")
        stop = gr.Button("Stop", interactive=False, min_width=80, elem_id="fdx-stop")
    with gr.Accordion("Settings", open=False, elem_id="fdx-settings"):
        max_new_tokens = gr.Slider(1, MAX_NEW_TOKENS, 128, step=1, label="New tokens at most")
        temperature = gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 always takes the likeliest token")
        top_p = gr.Slider(
            0.05, 1, 1, step=0.05, label="Top-p", info="Draws from the likeliest tokens with this much probability"
        )
        seed = gr.Number(0, label="Seed", precision=0, info="The same seed and settings give the same answer")
        threshold = gr.Slider(
            0, 1, facts.threshold, step=0.01, label="Gate threshold", info="A layer runs when its gate is above this"
        )
        chat = gr.Checkbox(True, label="Chat template", info="Off: the model continues the text as it is")
    gr.Markdown(
        "Runs on the machine that serves this page. What you type is neither logged nor sent on; "
        "download files are deleted after an hour.",
        elem_id="fdx-note",
    )
    return {
        "task": task,
        "sample": sample,
        "prompt": prompt,
        "run": run,
        "stop": stop,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "threshold": threshold,
        "chat": chat,
    }


def _results() -> dict[str, Any]:
    with gr.Column(visible=False, elem_id="fdx-results") as results:
        gr.Markdown(
            "## Figures and downloads\n"
            "Drag in a figure to zoom, double-click to zoom out; its camera saves a vector image (SVG).",
            elem_id="fdx-results-title",
        )
        with gr.Row(elem_id="fdx-downloads"):
            lines = gr.DownloadButton("Trace (.jsonl)", size="sm", elem_id="fdx-lines")
            csv = gr.DownloadButton("Table (.csv)", size="sm", elem_id="fdx-csv")
            page = gr.DownloadButton("Coloured text (.html)", size="sm", elem_id="fdx-html")
            gates_png = gr.Button("Gate map (.png)", size="sm", elem_id="fdx-gates-png")
            bowl_png = gr.Button("Bowl (.png)", size="sm", elem_id="fdx-bowl-png")
        with gr.Row():
            with gr.Column(scale=3, min_width=420):
                gates = gr.Plot(label="Gates by layer and token", show_label=False, elem_id="fdx-gates-figure")
            with gr.Column(scale=2, min_width=320):
                bowl = gr.Plot(label="Tokens processed by each layer", show_label=False, elem_id="fdx-bowl-figure")
    return {
        "results": results,
        "gates": gates,
        "bowl": bowl,
        "lines": lines,
        "csv": csv,
        "html": page,
        "gates_png": gates_png,
        "bowl_png": bowl_png,
    }


def _title(facts: ModelFacts) -> str:
    name = html.escape(visible(facts.name, " "))
    return (
        f"<h1>FlexiDepth Viewer <span class='fdx-model'>{name}</span></h1>"
        f"<p>Watch a language model decide, token by token, how many of its {facts.num_layers} layers to run: "
        "the darker the blue, the more layers produced the token.</p>"
    )
