"""SVG files -> the same pictures as PNG and PDF, by Kaleido and the Chromium that it finds. Knows no traces."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from flexidepth.errors import FlexiDepthError

FORMATS = (("png", 2), ("pdf", 1))  # and how many times the SVG's size
_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_SECONDS = 60  # for one picture


class NoPicturesError(FlexiDepthError):
    """Kaleido or a Chromium is missing, or failed; the message says what to install."""


def write_pictures(files: Sequence[Path]) -> list[Path]:
    """PNG and PDF beside each SVG file. Raises NoPicturesError, after which the SVG files are as they were."""
    try:
        import kaleido
    except ImportError:
        raise NoPicturesError("PNG and PDF need Kaleido: run pip install kaleido; the SVG files are there") from None
    wanted = [
        {"fig": figure, "path": path.with_suffix(f".{kind}"), "opts": {"format": kind, "scale": scale}}
        for path in files
        for figure in (_around(path.read_text(encoding="utf-8")),)
        for kind, scale in FORMATS
    ]
    try:
        # One browser for all, and no MathJax from a network. Its server would wait for ever without a browser.
        kaleido.write_fig_from_object_sync(wanted, cancel_on_error=True, kopts={"mathjax": False, "timeout": _SECONDS})
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise NoPicturesError(
            f"PNG and PDF need a Chromium that runs ({reason}): install chromium; the SVG files are there"
        ) from None
    return [Path(one["path"]) for one in wanted]


def _around(svg: str) -> go.Figure:
    """A Plotly figure that is this picture and nothing else, as Kaleido saves figures alone."""
    size = _SIZE.search(svg)
    assert size is not None, "all SVG of ours has a viewBox from 0 0"
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    figure = go.Figure()
    figure.add_layout_image(
        source=source, xref="paper", yref="paper", x=0, y=1, sizex=1, sizey=1, sizing="stretch", layer="above"
    )
    figure.update_layout(
        template=None,
        width=float(size[1]),
        height=float(size[2]),
        margin={"l": 0, "r": 0, "t": 0, "b": 0, "pad": 0},
        xaxis={"visible": False},
        yaxis={"visible": False},
    )
    return figure
