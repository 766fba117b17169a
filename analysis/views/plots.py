"""Plotly figures as gradio shows them, with downloads made in the browser. Knows no trace and no model."""

from __future__ import annotations

import json

import plotly.graph_objects as go
from gradio.components.plot import PlotData


def plot_data(figure: go.Figure, filename: str) -> PlotData:
    """The figure for gr.Plot, with what `to_json` leaves out: the camera saves SVG, and nothing advertises."""
    data = json.loads(str(figure.to_json()))
    data["config"] = {
        "displaylogo": False,
        "displayModeBar": True,
        "responsive": True,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
        "toImageButtonOptions": {"format": "svg", "filename": filename},
    }
    return PlotData(type="plotly", plot=json.dumps(data))


def save_png(elem_id: str, filename: str) -> str:
    """A script for a button: saves the figure inside `elem_id` as a PNG at twice its size, in the browser."""
    return (
        f"() => {{ const figure = document.querySelector('#{elem_id} .js-plotly-plot');"
        " if (figure && window.Plotly) window.Plotly.downloadImage(figure, {format: 'png', scale: 2,"
        f" filename: '{filename}', width: figure.clientWidth, height: figure.clientHeight}}); }}"
    )
