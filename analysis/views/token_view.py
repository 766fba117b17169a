"""The token view: a gradio component that draws a run while its JSON lines arrive. Knows no torch and no model.

Its value is the text of a trace file so far (`flexidepth.trace`), which only grows within a run; another header starts
another run. Before a header it may hold one `{"waiting": ...}` line (`runs.Progress`). The template is constant, and
the script writes model text only as text nodes: gradio runs template code that it finds in a value placed into one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.ramp import ANCHORS

_HERE = Path(__file__).parent
_SCRIPTS = (
    "token_text.js",
    "token_spans.js",
    "token_card.js",
    "layer_map.js",
    "bowl.js",
    "legend.js",
    "token_view.js",
)


def token_view(value: str = "", *, always_on: int = 0, num_layers: int = 0, elem_id: str | None = None) -> gr.HTML:
    """Coloured tokens with details on demand, layer x token map and bowl. The two numbers draw the first legend;
    0 layers draw none.

    A function and not a subclass: gradio writes a stub file beside the source of every component class it meets.
    """
    return gr.HTML(
        value=value,
        html_template=_read("token_view.html"),
        # In the head and not in `css_template`, which gradio compiles and writes anew at every change of the value.
        head=f"<style>{_read('token_view.css')}</style>",
        js_on_load=f"const RAMP = {json.dumps(ANCHORS)};\n" + "\n".join(_read(name) for name in _SCRIPTS),
        apply_default_css=False,
        elem_id=elem_id,
        always_on=always_on,
        num_layers=num_layers,
    )


def view_value(lines: Iterable[str]) -> str:
    """Lines of a trace as the view takes them: the same JSON with `<` escaped, as gradio looks for tags in values."""
    return "".join(line.replace("<", "\\u003c") + "\n" for line in lines)


def waiting_line(waiting: dict[str, Any]) -> str:
    """The value of a view whose run waits, as `runs.Progress.waiting` says it."""
    return view_value([json.dumps({"waiting": waiting})])


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
