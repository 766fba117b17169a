"""The page's layout: every component, by name, and what it shows before a run. Knows no model and no event."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from analysis.glyphs import visible
from analysis.tasks import TASKS, samples, task_named
from analysis.views.compare_tab import CompareTab, build_compare
from analysis.views.library_tab import build_library
from analysis.views.rerun import Rerun, build_rerun
from analysis.views.results import Results, build_results
from analysis.views.share import RANGES
from analysis.views.token_view import token_view

FIRST_TASK = "chat"


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
    share: gr.Button
    link: gr.Textbox
    view: gr.HTML
    results: Results
    rerun: Rerun
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

    @property
    def shared(self) -> list[gr.components.Component]:
        """What a link holds, in the order of share.NAMES."""
        return [self.task, *self.settings]


def build_page(facts: ModelFacts) -> tuple[Page, CompareTab]:
    """Lays out the page inside the current gr.Blocks."""
    gr.HTML(_title(facts), elem_id="fdx-title", apply_default_css=False, padding=False)
    with gr.Tabs(elem_id="fdx-tabs"):
        with gr.Tab("Run", id="run"):
            run = _run_tab(facts)
        with gr.Tab("Compare", id="compare"):
            compare = build_compare(
                always_on=facts.num_layers - facts.routed, num_layers=facts.num_layers, threshold=facts.threshold
            )
        with gr.Tab("Library", id="library") as library:
            build_library(library)
    return run, compare


def _run_tab(facts: ModelFacts) -> Page:
    with gr.Row(elem_classes="fdx-page"):
        with gr.Column(scale=4, min_width=300, elem_classes="fdx-compose"):
            compose = _compose(facts)
        with gr.Column(scale=11, min_width=320):
            view = token_view(
                always_on=facts.num_layers - facts.routed, num_layers=facts.num_layers, elem_id="fdx-view"
            )
    rerun = build_rerun(
        always_on=facts.num_layers - facts.routed, num_layers=facts.num_layers, threshold=facts.threshold
    )
    results = build_results("fdx")
    return Page(
        **compose,
        view=view,
        results=results,
        rerun=rerun,
        trace=gr.State(None, time_to_live=3600),
        dark=gr.Checkbox(visible=False),
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
        max_new_tokens = gr.Slider(1, int(RANGES["tokens"].high), 128, step=1, label="New tokens at most")
        temperature = gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 always takes the likeliest token")
        top_p = gr.Slider(
            0.05, 1, 1, step=0.05, label="Top-p", info="Draws from the likeliest tokens with this much probability"
        )
        seed = gr.Number(0, label="Seed", precision=0, info="The same seed and settings give the same answer")
        threshold = gr.Slider(
            0, 1, facts.threshold, step=0.01, label="Gate threshold", info="A layer runs when its gate is above this"
        )
        chat = gr.Checkbox(True, label="Chat template", info="Off: the model continues the text as it is")
        share = gr.Button("Link to this prompt and these settings", size="sm", elem_id="fdx-share")
        link = gr.Textbox(
            visible="hidden",
            label="Link, copied",
            buttons=["copy"],
            interactive=False,
            max_lines=2,
            elem_id="fdx-link",
        )
    gr.Markdown(
        "Runs on the machine that serves this page. What you type is neither logged nor sent on; "
        "download files are deleted after an hour.",
        elem_classes="fdx-note",
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
        "share": share,
        "link": link,
    }


def _title(facts: ModelFacts) -> str:
    name = html.escape(visible(facts.name, " "))
    return (
        f"<h1>FlexiDepth Viewer <span class='fdx-model'>{name}</span></h1>"
        f"<p>Watch a language model decide, token by token, how many of its {facts.num_layers} layers to run: "
        "the darker the blue, the more layers produced the token.</p>"
    )
