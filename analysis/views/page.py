"""The page's layout: every component, by name, and what it shows before a run. Knows no model and no event."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from analysis.glyphs import visible
from analysis.tasks import TASKS, samples, task_named
from analysis.views.compare_tab import CompareTab, build_compare
from analysis.views.library_tab import build_library
from analysis.views.picker import Picker, build_picker
from analysis.views.rerun import Rerun, build_rerun
from analysis.views.results import Results, build_results
from analysis.views.share import RANGES
from analysis.views.token_view import token_view
from flexidepth.model_entry import ModelEntry

FIRST_TASK = "chat"


@dataclass(frozen=True)
class Page:
    """The components that events read and write."""

    title: gr.HTML
    picker: Picker
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
        return [self.task, *self.settings, self.picker.model]


def build_page(entries: Sequence[ModelEntry], chosen: ModelEntry) -> tuple[Page, CompareTab]:
    """Lays out the page inside the current gr.Blocks. chosen: the one of the entries that a visitor finds chosen."""
    with gr.Row(elem_id="fdx-top"):
        with gr.Column(scale=11, min_width=320):
            title = gr.HTML(_title(chosen), elem_id="fdx-title", apply_default_css=False, padding=False)
        picker = build_picker(entries, chosen.name)
    with gr.Tabs(elem_id="fdx-tabs"):
        with gr.Tab("Run", id="run"):
            run = _run_tab(chosen, title, picker)
        with gr.Tab("Compare", id="compare"):
            compare = build_compare(**_layers(chosen), threshold=chosen.threshold)
        with gr.Tab("Library", id="library") as library:
            build_library(library)
    return run, compare


def model_shown(page: Page, compare: CompareTab, entry: ModelEntry) -> dict[Any, Any]:
    """The updates that make the page that of another model: title, thresholds, and the legends before a run."""
    update: dict[Any, Any] = {page.title: _title(entry)}
    update |= dict.fromkeys(
        (page.threshold, compare.threshold, page.rerun.threshold), gr.update(value=entry.threshold)
    )
    return update | dict.fromkeys((page.view, compare.view, page.rerun.view), gr.update(**_layers(entry)))


def _layers(entry: ModelEntry) -> dict[str, Any]:
    return {"always_on": entry.always_on or 0, "num_layers": entry.num_layers or 0}


def _run_tab(chosen: ModelEntry, title: gr.HTML, picker: Picker) -> Page:
    with gr.Row(elem_classes="fdx-page"):
        with gr.Column(scale=4, min_width=300, elem_classes="fdx-compose"):
            compose = _compose(chosen)
        with gr.Column(scale=11, min_width=320):
            view = token_view(**_layers(chosen), elem_id="fdx-view")
    rerun = build_rerun(**_layers(chosen), threshold=chosen.threshold)
    results = build_results("fdx")
    return Page(
        **compose,
        title=title,
        picker=picker,
        view=view,
        results=results,
        rerun=rerun,
        trace=gr.State(None, time_to_live=3600),
        dark=gr.Checkbox(visible=False),
    )


def _compose(chosen: ModelEntry) -> dict[str, Any]:
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
            0, 1, chosen.threshold, step=0.01, label="Gate threshold", info="A layer runs when its gate is above this"
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


def _title(entry: ModelEntry) -> str:
    name = html.escape(visible(entry.title, " "))
    count = f"its {entry.num_layers} layers" if entry.num_layers else "its layers"
    return (
        f"<h1>FlexiDepth Viewer <span class='fdx-model'>{name}</span></h1>"
        f"<p>Watch a language model decide, token by token, how many of {count} to run: "
        "the darker the blue, the more layers produced the token.</p>"
    )
