"""Traces -> the words that stand below a figure in a paper: what is drawn, of which model, over how many answers.

Knows no figure, no torch and no page.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.glyphs import visible
from analysis.recorded import Recorded
from flexidepth.trace import Trace, TraceHeader

_DRAWN = {
    "bowls": "Share of generated tokens that each routed layer processed, by task.",
    "depths": "Distribution of the number of layers that generated tokens used, by task.",
    "along": "Mean number of layers used along the answer, by task.",
    "classes": "Mean number of layers used by kind of token, all tasks together (number of tokens in brackets).",
}
_SURE = {  # said only where there is more than one input to draw anew
    "bowls": "Bands: 95 % bootstrap intervals over inputs.",
    "along": "Bands: 95 % bootstrap intervals over inputs.",
    "classes": "Bars: 95 % bootstrap intervals over answers.",
}
_ONE_RUN = (
    "Gates of the routed layers for each token of one answer (map; a layer runs where its gate is above the "
    "threshold) and the share of its tokens that each layer processed (bowl)."
)


def made_with(runs: Sequence[Recorded]) -> str:
    """Model, checkpoint, threshold, routes, n, seed: one line that stands on every figure of several runs."""
    header = runs[0].trace.header
    most = max(run.prompt.number for run in runs) + 1
    return (
        f"{_model(header)}, routes {header.routes}; up to {most} input{'s' * (most > 1)} a task, {_draw(header)}, "
        f"at most {header.max_new_tokens} tokens"
    )


def figure_captions(runs: Sequence[Recorded]) -> dict[str, str]:
    """By the figure's file name without its suffix."""
    tokens = sum(len(run.trace.generated) for run in runs)
    alone = max(run.prompt.number for run in runs) == 0
    setting = f"{made_with(runs)} ({len(runs)} answer{'s' * (len(runs) > 1)}, {tokens} tokens)."
    return {name: f"{words}{_sure(name, alone)} {setting}" for name, words in _DRAWN.items()}


def _sure(name: str, alone: bool) -> str:
    return f" {_SURE[name]}" if name in _SURE and not alone else ""


def run_caption(trace: Trace) -> str:
    """For the gate map and the bowl of one run, which has at least one token."""
    header, summary = trace.header, trace.summary()
    return (
        f"{_ONE_RUN} {_model(header)}, routes {header.routes}; {summary['tokens']} tokens, {_draw(header)}, "
        f"{summary['mean_layers_used']:.2f} of {header.num_layers} layers used on average."
    )


def _model(header: TraceHeader) -> str:
    return f"{visible(header.model, ' ')}, checkpoint {header.checkpoint}, threshold {header.threshold:g}"


def _draw(header: TraceHeader) -> str:
    return "greedy" if header.temperature == 0 else f"temperature {header.temperature:g}, seed {header.seed}"
