"""Exported files open, hold the trace's numbers and run nothing; the token view never puts text into a template."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from analysis.ramp import contrast, depth_colour, ink
from analysis.views.export import safe_cell, to_csv, to_html, write_files
from analysis.views.plots import plot_data
from analysis.views.token_view import token_view, view_value, waiting_line
from flexidepth.trace import Trace
from tests.ui.sample_traces import HOSTILE, NUM_LAYERS, ROUTED, WORDS, make_header, make_steps, make_trace


class Tags(HTMLParser):
    """Which elements a browser would make, with their attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_json_lines_are_the_trace(tmp_path: Path) -> None:
    trace = make_trace(HOSTILE)
    files = write_files(trace, tmp_path)
    assert Trace.from_lines(files.lines.read_text(encoding="utf-8").splitlines()) == trace
    assert {path.suffix for path in (files.lines, files.csv, files.html)} == {".jsonl", ".csv", ".html"}


def test_file_names_never_hold_what_was_typed(tmp_path: Path) -> None:
    header = make_header(run_id="../../etc/passwd secret", prompt="secret")
    files = write_files(Trace(header, make_steps()), tmp_path)
    assert files.csv.parent == tmp_path
    assert re.fullmatch(r"flexidepth-\w{1,12}\.csv", files.csv.name)


def test_csv_holds_the_numbers() -> None:
    trace = make_trace()
    rows = list(csv.DictReader(io.StringIO(to_csv(trace))))
    assert len(rows) == len(WORDS)
    for row, step in zip(rows, trace.steps, strict=True):
        assert int(row["token_id"]) == step.token_id
        assert int(row["layers_used"]) == step.layers_used
        assert float(row["logprob"]) == pytest.approx(step.logprob)
        for place, layer in enumerate(ROUTED):
            assert float(row[f"gate_{layer + 1}"]) == pytest.approx(step.gates[place])
            assert (row[f"run_{layer + 1}"] == "True") == step.executed[place]


def test_csv_cells_cannot_be_formulas(tmp_path: Path) -> None:
    trace = make_trace((*HOSTILE, " =1+1", "\n=2", "\t=3", "\uff1d4", "plain"))
    files = write_files(trace, tmp_path)
    with files.csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(trace.steps)
    for row in rows:
        assert not row["text"].lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
        assert "\x00" not in row["text"]
    assert rows[-1]["text"] == "plain"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        (" the", " the"),
        ("=1", "'=1"),
        ("-", "'-"),
        (" @x", "' @x"),
        ("a=b", "a=b"),
        ("\x07", "\\u0007"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_safe_cells(text: str, cell: str) -> None:
    assert safe_cell(text) == cell


def test_html_holds_every_token_with_its_colour() -> None:
    trace = make_trace()
    tags = parse(to_html(trace))
    tokens = [attributes for _, attributes in tags.found if attributes.get("class") == "token"]
    assert [token["data-layers"] for token in tokens] == [str(step.layers_used) for step in trace.steps]
    for token, step in zip(tokens, trace.steps, strict=True):
        colour = depth_colour(step.layers_used, NUM_LAYERS - len(ROUTED), NUM_LAYERS)
        assert token["style"] == f"background-color:{colour};color:{ink(colour)}"
        assert contrast(colour, ink(colour)) >= 4.5
    for number in range(NUM_LAYERS - len(ROUTED), NUM_LAYERS + 1):
        assert f">{number}</span>" in to_html(trace)
    for word in ("toy", "0123abcd", "Threshold", "Say something."):
        assert word in tags.text


def test_html_is_self_contained_and_runs_nothing() -> None:
    text = to_html(make_trace(HOSTILE, prompt="<script>alert(1)</script> ${x} \u202e\u0000"))
    tags = parse(text)
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "span", "dl", "dt", "dd"}
    assert {tag for tag, _ in tags.found} <= allowed
    for _, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href")]
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    text.encode("utf-8")
    assert html.escape(HOSTILE[0]) in text


def test_html_of_a_run_without_tokens_opens() -> None:
    assert "no tokens" in to_html(Trace(make_header(), ()))


def test_view_values_are_the_trace_without_tags() -> None:
    trace = make_trace(HOSTILE)
    value = view_value(trace.to_lines())
    assert "<" not in value
    assert Trace.from_lines(value.splitlines()) == trace
    assert json.loads(waiting_line({"ahead": 2})) == {"waiting": {"ahead": 2}}


def test_the_template_is_constant_and_text_never_reaches_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view = token_view(view_value(make_trace(HOSTILE).to_lines()), always_on=15, num_layers=30)
    for trap in ("${", "{{", "`", "\\", "@children"):
        assert trap not in view.html_template
    assert view.css_template == ""
    for script in Path("analysis/views").resolve().glob("*.js"):
        source = script.read_text(encoding="utf-8")
        for trap in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "http:",
            "https:",
        ):
            assert trap not in source.replace("http://www.w3.org/2000/svg", ""), f"{script.name} uses {trap}"


def test_importing_the_view_writes_no_stub_file() -> None:
    assert not list(Path(__file__).parents[1].glob("analysis/**/*.pyi"))


def test_plots_save_svg_under_their_name() -> None:
    data = json.loads(plot_data(go.Figure(), "my-figure").plot)
    assert data["config"]["toImageButtonOptions"] == {"format": "svg", "filename": "my-figure"}
    assert data["config"]["displaylogo"] is False
