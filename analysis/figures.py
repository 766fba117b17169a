"""Tables -> Plotly figures, for a light and a dark page. Knows no torch and no page.

Colours are hex and attributes are the classic ones: the page draws with an older plotly.js than the one this package
has. Token text comes from a model, so it is made visible and escaped before it reaches hover labels or ticks.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from analysis.glyphs import visible
from analysis.ramp import colour
from analysis.stats import token_table, usage_table
from flexidepth.trace import Trace

TICKS_WITH_TEXT = 60  # up to so many tokens the horizontal axis shows them; beyond that their numbers
FONT = "IBM Plex Sans, Source Sans Pro, Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of one theme: a solid paper, so that a saved figure is readable anywhere."""

    paper: str
    text: str
    muted: str
    grid: str
    skipped_low: str
    skipped_high: str
    bar: str
    always_on: str
    ran: tuple[float, float]  # places on the ramp just above the threshold and at gate 1: always away from the paper


LIGHT = Look("#ffffff", "#1b2330", "#5b6675", "#e3e8ef", "#ffffff", "#e7e4de", "#296cb1", "#c9d0da", (0.2, 1.0))
DARK = Look("#14181f", "#e8edf4", "#9aa6b5", "#2b323d", "#14181f", "#2f2e2c", "#6ea9dc", "#4a5361", (0.85, 0.1))


def gate_map(trace: Trace, *, dark: bool = False) -> go.Figure:
    """Layer x token: the gate of every routed layer. Blue above the threshold, where the layer ran; grey below."""
    look = DARK if dark else LIGHT
    table = token_table(trace)
    table = table[~table["is_prompt"]]
    layers = [layer + 1 for layer in trace.header.routed_layers]
    numbers = np.arange(1, len(table) + 1)
    gates = table[[f"gate_{layer}" for layer in layers]].to_numpy(dtype=np.float32).T
    words = [_label(text, 60) for text in table["text"]]
    verdicts = np.where(table[[f"run_{layer}" for layer in layers]].to_numpy(dtype=bool).T, "ran", "skipped")
    # One [layers, tokens, 2] block: Plotly's hover has no other place for what belongs to a column.
    details = np.stack(
        [np.broadcast_to(np.array(words, dtype=object), verdicts.shape), verdicts.astype(object)], axis=-1
    )
    figure = go.Figure(
        go.Heatmap(
            x=numbers,
            y=layers,
            z=gates,
            customdata=details.tolist(),
            zmin=0,
            zmax=1,
            xgap=1 if len(table) <= 80 else 0,
            ygap=1,
            colorscale=_gate_scale(trace.header.threshold, look),
            colorbar={
                "title": {"text": "gate", "side": "right", "font": {"size": 12}},
                "thickness": 12,
                "outlinewidth": 0,
                "tickvals": sorted({0.0, round(trace.header.threshold, 3), 1.0}),
                "tickcolor": look.muted,
                "tickfont": {"size": 11},
            },
            hovertemplate="token %{x}: <b>%{customdata[0]}</b><br>"
            "layer %{y} %{customdata[1]}, gate %{z:.3f}<extra></extra>",
        )
    )
    _dress(figure, look, "Gates by layer and token", "blue: the layer ran; grey: skipped")
    figure.update_yaxes(title_text="layer", dtick=1 if len(layers) <= 20 else 4, showgrid=False)
    figure.update_xaxes(title_text="generated token", showgrid=False, rangemode="normal")
    if 0 < len(table) <= TICKS_WITH_TEXT:
        figure.update_xaxes(
            tickvals=numbers, ticktext=[_label(text, 12) for text in table["text"]], tickangle=-60, tickfont_size=10
        )
    return figure


def bowl(trace: Trace, *, dark: bool = False) -> go.Figure:
    """Share of the generated tokens that each layer processed; always-on layers are hatched."""
    look = DARK if dark else LIGHT
    table = usage_table(trace)
    figure = go.Figure()
    for always_on, name, fill in ((True, "always on", look.always_on), (False, "routed", look.bar)):
        part = table[table["always_on"] == always_on]
        figure.add_bar(
            x=part["layer"].to_numpy(),
            y=(part["share"] * 100).to_numpy(dtype=np.float64),
            customdata=part["tokens"].to_numpy(),
            name=name,
            marker={
                "color": fill,
                "line": {"width": 0},
                "pattern": {"shape": "/" if always_on else "", "size": 5, "solidity": 0.25, "fgcolor": look.muted},
            },
            hovertemplate=f"layer %{{x}}, {name}<br>"
            f"%{{customdata}} of {len(trace.generated)} tokens (%{{y:.1f}} %)<extra></extra>",
        )
    _dress(figure, look, "Use of each layer", "share of generated tokens")
    figure.update_layout(
        bargap=0.18, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"}
    )
    figure.update_xaxes(title_text="layer", showgrid=False, dtick=5 if trace.header.num_layers > 16 else 1, tick0=0)
    marks = [0, 25, 50, 75, 100]
    figure.update_yaxes(range=[0, 102], tickvals=marks, ticktext=[f"{mark} %" for mark in marks], gridcolor=look.grid)
    return figure


def _gate_scale(threshold: float, look: Look) -> list[list[float | str]]:
    """Two ramps that meet at the threshold, so the decision is visible and not only the number."""
    low, high = look.ran
    blues: list[list[float | str]] = [
        [threshold + (1 - threshold) * place, colour(low + (high - low) * place)]
        for place in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    if threshold <= 0.0:
        return blues
    greys: list[list[float | str]] = [[0.0, look.skipped_low], [threshold, look.skipped_high]]
    return greys if threshold >= 1.0 else greys + blues


def _dress(figure: go.Figure, look: Look, title: str, subtitle: str) -> None:
    figure.update_layout(
        template=None,
        paper_bgcolor=look.paper,
        plot_bgcolor=look.paper,
        font={"family": FONT, "size": 13, "color": look.text},
        title={
            "text": f"<b>{title}</b><br><span style='font-size:12px;color:{look.muted}'>{subtitle}</span>",
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 0.9,
            "yanchor": "top",
            "font": {"size": 15},
        },
        margin={"l": 56, "r": 24, "t": 92, "b": 56},
        height=440,
        hoverlabel={"bgcolor": look.paper, "bordercolor": look.muted, "font": {"color": look.text, "family": FONT}},
        modebar={"bgcolor": look.paper, "color": look.muted, "activecolor": look.text, "orientation": "h"},
    )
    lines = {
        "linecolor": look.muted,
        "title_font_size": 12,
        "tickfont_size": 11,
        "tickcolor": look.muted,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
    }
    figure.update_xaxes(**lines, gridcolor=look.grid)
    figure.update_yaxes(**lines, gridcolor=look.grid)


def _label(text: str, length: int) -> str:
    """Token text as Plotly may show it: visible, and with nothing that it reads as markup or as a template."""
    shown = visible(text) or "(no text)"
    shown = shown if len(shown) <= length else shown[: length - 1] + "…"
    return html.escape(shown, quote=False).replace("%{", "%&#123;").replace("$", "&#36;")
