"""The comparison as a gradio component: panels, overlaid bowls and means, drawn while JSON lines arrive.

Its value is the text of `analysis.comparison`'s lines so far. Knows no torch and no model.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from analysis.ramp import ANCHORS

_HERE = Path(__file__).parent
_SCRIPTS = (
    "token_text.js",
    "token_spans.js",
    "token_card.js",
    "legend.js",
    "bowl_lines.js",
    "compare_panel.js",
    "compare_view.js",
)


def compare_view(*, always_on: int, num_layers: int, elem_id: str) -> gr.HTML:
    """Takes its colours and token styles from the token view, which must be on the same page."""
    return gr.HTML(
        value="",
        html_template=_read("compare_view.html"),
        head=f"<style>{_read('compare_view.css')}</style>",
        js_on_load=f"const RAMP = {json.dumps(ANCHORS)};\n" + "\n".join(_read(name) for name in _SCRIPTS),
        apply_default_css=False,
        elem_id=elem_id,
        always_on=always_on,
        num_layers=num_layers,
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
