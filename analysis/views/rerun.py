"""The same prompt at another gate threshold, on the same model, beside the run that is shown. Knows the runner and no
model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from analysis.comparison import ended_line, panels_line, run_line, trace_lines
from analysis.runs import Runner, Told
from analysis.views.compare_view import compare_view
from analysis.views.share import RANGES
from analysis.views.token_view import view_value
from flexidepth.trace import Trace


@dataclass(frozen=True)
class Rerun:
    """whole: hidden until a run has ended. both: hidden until it was used for that run."""

    whole: gr.Column
    threshold: gr.Slider
    again: gr.Button
    both: gr.Column
    view: gr.HTML
    shown: gr.State  # (run id, threshold) of what both shows


def build_rerun(*, always_on: int, num_layers: int, threshold: float) -> Rerun:
    """Lays it out inside the current gr.Blocks."""
    limits = RANGES["threshold"]
    with gr.Column(visible=False, elem_id="fdx-rerun") as whole:
        gr.Markdown("## Another threshold", elem_classes="fdx-results-title")
        with gr.Row():
            slider = gr.Slider(
                limits.low,
                limits.high,
                threshold,
                step=0.01,
                label="Gate threshold of the second run",
                info="Let go of it, and the same prompt runs again: fewer layers above, more below",
                scale=3,
                min_width=280,
                elem_id="fdx-rerun-threshold",
            )
            again = gr.Button("Run beside", scale=1, min_width=120, elem_id="fdx-rerun-again")
        with gr.Column(visible=False) as both:
            view = compare_view(always_on=always_on, num_layers=num_layers, elem_id="fdx-rerun-view")
    return Rerun(whole, slider, again, both, view, gr.State(None))


def wire_rerun(rerun: Rerun, runner: Runner, trace: gr.State, told: Told, concurrency_limit: int) -> None:
    """trace: the run that is shown. told: see `Told`."""

    def run_beside(
        before: Trace | None, threshold: float, shown: tuple[str, float] | None
    ) -> Iterator[dict[Any, Any]]:
        if before is None or not before.generated:
            yield {rerun.both: gr.update(visible=False)}
            return
        header = before.header
        wanted = (header.run_id, float(threshold))
        if wanted == shown:  # a typed number starts it when it is left, and the click that left it was on the button
            yield {rerun.shown: shown}
            return
        lines = [
            panels_line([_name(header.threshold), _name(threshold)], differ=True),
            run_line(0, "the run above"),
            *trace_lines(before, None),
            run_line(1, "the same prompt and seed"),
        ]
        settings = {name: getattr(header, name) for name in ("max_new_tokens", "temperature", "top_p", "seed", "chat")}
        sent: int | None = None
        with closing(runner.run(header.prompt, settings | {"threshold": float(threshold)}, header.model)) as run:
            for now in told(run):
                if now.trace is None:
                    lines.append(json.dumps({"waiting": now.waiting}))
                else:
                    lines += trace_lines(now.trace, sent)
                    sent = len(now.trace.steps)
                yield {rerun.both: gr.update(visible=True), rerun.view: view_value(lines)}
        lines.append(ended_line(stopped=False))
        yield {rerun.both: gr.update(visible=True), rerun.view: view_value(lines), rerun.shown: wanted}

    gr.on(
        [rerun.threshold.release, rerun.again.click],
        run_beside,
        [trace, rerun.threshold, rerun.shown],
        [rerun.both, rerun.view, rerun.shown],
        concurrency_limit=concurrency_limit,
        trigger_mode="always_last",
        api_visibility="private",
        show_progress="hidden",
    )


def _name(threshold: float) -> str:
    return f"threshold {threshold:g}"
