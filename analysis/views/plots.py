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


def save_figure(elem_id: str, filename: str, kind: str) -> str:
    """A script for a button: saves the figure inside `elem_id`, in the browser; a PNG at twice its size."""
    scale = 2 if kind == "png" else 1
    return (
        f"() => {{ const figure = document.querySelector('#{elem_id} .js-plotly-plot');"
        f" if (figure && window.Plotly) window.Plotly.downloadImage(figure, {{format: '{kind}', scale: {scale},"
        f" filename: '{filename}', width: figure.clientWidth, height: figure.clientHeight}}); }}"
    )


def save_svg_as_png(filename: str) -> str:
    """A script for a button whose input is a file of ours, an SVG: saves it as a PNG at twice its size, drawn by the
    visitor's own browser.
    """
    return f"""async (file) => {{
      if (!file) return;
      const answer = await fetch(file.url);
      const drawn = new DOMParser().parseFromString(await answer.text(), "image/svg+xml").documentElement;
      const canvas = document.createElement("canvas");
      canvas.width = 2 * drawn.viewBox.baseVal.width;
      canvas.height = 2 * drawn.viewBox.baseVal.height;
      drawn.setAttribute("width", canvas.width);
      drawn.setAttribute("height", canvas.height);
      const image = new Image();
      const text = new XMLSerializer().serializeToString(drawn);
      image.src = URL.createObjectURL(new Blob([text], {{ type: "image/svg+xml" }}));
      await image.decode();
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      URL.revokeObjectURL(image.src);
      const link = document.createElement("a");
      link.href = canvas.toDataURL("image/png");
      link.download = "{filename}.png";
      link.click();
    }}"""
