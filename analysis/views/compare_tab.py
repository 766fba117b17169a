"""The Compare tab: several tasks run one after another, their answers side by side. Knows the runner and no model."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.captions import figure_captions
from analysis.comparison import (
    MOST_INPUTS,
    ended_line,
    opening_line,
    panels,
    planned,
    run_line,
    table_line,
    trace_lines,
)
from analysis.recorded import TRACES_FILE, Recorded, append
from analysis.report import FIGURES, REPORT_FILE, SUMMARY_FILE, write_report
from analysis.runs import Progress, Runner, Told
from analysis.tasks import TASKS
from analysis.tidy import CSV_FILE
from analysis.views.compare_view import compare_view
from analysis.views.plots import save_svg_as_png
from analysis.views.results import caption_box
from analysis.views.share import RANGES
from analysis.views.token_view import view_value

_FIRST_TASKS = ("copy", "summarize", "continue")
_MOST_TOKENS = 256
_ALL_FILES = "flexidepth-comparison.zip"
_BOWLS = f"{FIGURES}/bowls.svg"
_DOWNLOADS = {  # by the file's path in a report's directory
    REPORT_FILE: "Report (.html)",
    _BOWLS: "Bowls (.svg)",
    CSV_FILE: "Tokens (.csv)",
    TRACES_FILE: "Runs (.jsonl)",
    SUMMARY_FILE: "Summary (.json)",
    _ALL_FILES: "All of it (.zip)",
}


@dataclass(frozen=True)
class CompareTab:
    tasks: gr.CheckboxGroup
    inputs: gr.Slider
    passage: gr.Textbox
    numbers: gr.Textbox
    max_new_tokens: gr.Slider
    threshold: gr.Slider
    run: gr.Button
    stop: gr.Button
    view: gr.HTML
    files: gr.Column
    downloads: dict[str, gr.DownloadButton]
    caption: gr.Textbox
    runs: gr.State

    @property
    def settings(self) -> list[gr.components.Component]:
        return [self.tasks, self.inputs, self.passage, self.numbers, self.max_new_tokens, self.threshold]


def build_compare(*, always_on: int, num_layers: int, threshold: float) -> CompareTab:
    """Lays out the tab inside the current gr.Blocks."""
    offered = [(task.label, task.name) for task in TASKS if task.kind != "chat"]
    with gr.Row(elem_classes="fdx-page"):
        with gr.Column(scale=4, min_width=300, elem_classes="fdx-compose"):
            tasks = gr.CheckboxGroup(offered, value=list(_FIRST_TASKS), label="Tasks", elem_id="compare-tasks")
            inputs = gr.Slider(
                1, MOST_INPUTS, 1, step=1, label="Inputs a task", info="Means get intervals from two on"
            )
            with gr.Accordion("Own text, own list, settings", open=False):
                passage = gr.Textbox(label="Own text for copy, summarize, continue", lines=3, max_lines=8)
                numbers = gr.Textbox(label="Own list for repeat, add, multiply", placeholder="12, 45, 78", max_lines=1)
                max_new_tokens = gr.Slider(1, _MOST_TOKENS, 64, step=1, label="New tokens at most")
                limits = RANGES["threshold"]
                gate = gr.Slider(limits.low, limits.high, threshold, step=0.01, label="Gate threshold")
            with gr.Row():
                run = gr.Button("Run all", variant="primary", min_width=80, elem_id="compare-run")
                stop = gr.Button("Stop", interactive=False, min_width=80, elem_id="compare-stop")
            gr.Markdown(
                "Greedy answers, one after another on the same model. Point at a curve to dim the others; "
                "click one of its points to see the tokens that ran that layer.",
                elem_classes="fdx-note",
            )
        with gr.Column(scale=11, min_width=320):
            view = compare_view(always_on=always_on, num_layers=num_layers, elem_id="compare-view")
            with gr.Column(visible=False, elem_id="compare-files") as files:
                with gr.Row(elem_classes="fdx-downloads"):
                    downloads = {file: gr.DownloadButton(name, size="sm") for file, name in _DOWNLOADS.items()}
                    png = gr.Button("Bowls (.png)", size="sm")
                caption = caption_box()
    png.click(None, downloads[_BOWLS], js=save_svg_as_png("flexidepth-bowls"))
    return CompareTab(
        tasks,
        inputs,
        passage,
        numbers,
        max_new_tokens,
        gate,
        run,
        stop,
        view,
        files,
        downloads,
        caption,
        gr.State([], time_to_live=3600),
    )


def wire_compare(tab: CompareTab, runner: Runner, model: gr.Dropdown, told: Told, concurrency_limit: int) -> None:
    """Connects the tab. model: the one to run. told: see `Told`."""

    def begin() -> tuple[Any, ...]:
        return gr.update(interactive=False), gr.update(interactive=True), gr.update(visible=False), "", []

    def compare(
        tasks: list[str],
        inputs: float,
        passage: str,
        numbers: str,
        max_new_tokens: float,
        threshold: float,
        model: str,
    ) -> Iterator[tuple[str, list[Recorded]]]:
        chosen = [task.name for task in TASKS if task.name in tasks]
        settings = {
            "max_new_tokens": int(max_new_tokens),
            "threshold": float(threshold),
            "temperature": 0.0,
            "seed": 0,
            "chat": True,
        }
        lines: list[str] = []
        done: list[Recorded] = []

        def progress() -> Iterator[Progress]:
            """Every run in turn; `lines` and `done` grow with it."""
            prompts = planned(chosen, int(inputs), passage=passage or "", numbers=numbers or "")
            lines.append(opening_line(prompts))
            for prompt in prompts:
                lines.append(run_line(panels(prompts).index(prompt.task), prompt.title))
                sent: int | None = None
                now = Progress()
                with closing(runner.run(prompt.text, settings, model)) as run:
                    for now in run:
                        if now.trace is None:
                            lines.append(json.dumps({"waiting": now.waiting}))
                        else:
                            lines.extend(trace_lines(now.trace, sent))
                            sent = len(now.trace.steps)
                        yield now
                assert now.trace is not None
                done.append(Recorded(prompt, now.trace))
                lines.append(table_line(done))
            lines.append(ended_line(stopped=False))
            yield Progress()

        for _ in told(progress()):
            yield view_value(lines), done

    def finish(view: str, runs: list[Recorded]) -> dict[Any, Any]:
        update: dict[Any, Any] = {tab.run: gr.update(interactive=True), tab.stop: gr.update(interactive=False)}
        ended = '{"ended"' in (view or "").rstrip("\n").rsplit("\n", 1)[-1]
        if view and not ended:
            update[tab.view] = view + view_value([ended_line(stopped=True)])
        if not runs:
            return update
        directory = Path(tab.downloads[REPORT_FILE].GRADIO_CACHE) / secrets.token_urlsafe(24)
        report = directory / "comparison"
        report.mkdir(parents=True)
        append(report / TRACES_FILE, runs)
        write_report(report)
        shutil.make_archive(str(report / _ALL_FILES.removesuffix(".zip")), "zip", directory, "comparison")
        update |= {button: str(report / name) for name, button in tab.downloads.items()}
        update[tab.caption] = figure_captions(runs)["bowls"]
        return update | {tab.files: gr.update(visible=True)}

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    began = tab.run.click(begin, None, [tab.run, tab.stop, tab.files, tab.view, tab.runs], **quiet)
    compared = began.success(
        compare, [*tab.settings, model], [tab.view, tab.runs], concurrency_limit=concurrency_limit, **quiet
    )
    finished = [tab.run, tab.stop, tab.view, tab.files, *tab.downloads.values(), tab.caption]
    for outcome in (compared.success, compared.failure):  # `then` does not follow a failure in gradio 6.31
        outcome(finish, [tab.view, tab.runs], finished, **quiet)
    tab.stop.click(finish, [tab.view, tab.runs], finished, cancels=[compared], **quiet)
