"""Recorded runs -> a directory that a reader needs nothing else for: report.html, figures, tables, patterns.

Everything is counted anew from the traces; knows no torch and no model.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.captions import figure_captions, made_with
from analysis.flexipatterns import write_patterns
from analysis.glyphs import visible
from analysis.pattern_charts import along_svg, bowls_svg, classes_svg, depths_svg
from analysis.recorded import TRACES_FILE, Recorded, read_recorded
from analysis.results_tables import classes_table, pairs_table, tasks_table
from analysis.summary import summarize_runs
from analysis.svg_map import map_svg
from analysis.tidy import tidy_table, write_tables
from analysis.views.export import STYLE, coloured, legend
from flexidepth.errors import UsageError

REPORT_FILE = "report.html"
SUMMARY_FILE = "summary.json"
FIGURES = "figures"
CAPTIONS_FILE = "captions.txt"
_PATTERNS = "patterns"
_MORE_STYLE = """
body { max-width: 62rem; } figure { margin: 1.25rem 0; } figure svg { width: 100%; height: auto; }
figcaption { color: #5b6675; font-size: .9rem; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0 1rem; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #e3e8ef; }
td { font-variant-numeric: tabular-nums; }
th { font-weight: 600; } details { margin: .75rem 0; } summary { cursor: pointer; }
"""


def write_report(directory: Path) -> Path:
    """Reads DIR/traces.jsonl and writes report.html, summary.json, tokens.parquet and .csv, figures/ with captions and
    patterns/ beside it. Returns the report's path. Raises UsageError without runs, TraceError for a broken line.
    """
    runs = list(read_recorded(directory / TRACES_FILE))
    if not runs:
        raise UsageError(f"{directory / TRACES_FILE} holds no runs: make some with python -m analysis run")
    summary = summarize_runs(runs)
    (directory / SUMMARY_FILE).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_tables(tidy_table(runs), directory)
    write_patterns(runs, directory / _PATTERNS)
    figures = figures_of(runs, summary)
    (directory / FIGURES).mkdir(exist_ok=True)
    for name, svg in figures.items():
        (directory / FIGURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    captions = "".join(f"{name}.svg: {words}\n" for name, words in figure_captions(runs).items())
    (directory / FIGURES / CAPTIONS_FILE).write_text(captions, encoding="utf-8")
    path = directory / REPORT_FILE
    path.write_text(report_html(runs, summary, figures), encoding="utf-8")
    return path


def figures_of(runs: Sequence[Recorded], summary: dict[str, Any]) -> dict[str, str]:
    """SVG by name; every one says model, checkpoint, n and seed."""
    header, caption = runs[0].trace.header, made_with(runs)
    figures = {
        "bowls": bowls_svg(summary, header.routed_layers, caption),
        "depths": depths_svg(summary, caption),
        "along": along_svg(summary, caption),
        "classes": classes_svg(summary, caption),
    }
    return figures | {f"map-{_slug(run.prompt.task)}": map_svg(run.trace) for run in _examples(runs)}


def _examples(runs: Sequence[Recorded]) -> list[Recorded]:
    """The first run of each task: chosen by place, not by looks."""
    return list({run.prompt.task: run for run in reversed(runs)}.values())[::-1]


def _slug(task: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in task)[:40]


def report_html(runs: Sequence[Recorded], summary: dict[str, Any], figures: dict[str, str]) -> str:
    """One file without scripts and without links to elsewhere."""
    header = runs[0].trace.header
    tokens = sum(task["tokens"] for task in summary["tasks"].values())
    charts = "".join(_figure(figures[name], text) for name, text in figure_captions(runs).items())
    examples = "".join(_example(run, figures[f"map-{_slug(run.prompt.task)}"]) for run in _examples(runs))
    pairs = "<h2>Differences</h2>" + pairs_table(summary).html() if summary["pairs"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in header.versions.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Layers used by task</title>
<style>{STYLE}{_MORE_STYLE}</style>
</head>
<body>
<h1>Layers used by task</h1>
<p class="muted">{html.escape(made_with(runs))}.<br>{len(runs)} answers, {tokens} tokens.
{html.escape(visible(versions, " "))}.</p>
<h2>Means</h2>
{tasks_table(summary).html()}
<p class="muted">Means are over generated tokens, intervals draw whole answers anew. The last column quotes the
paper: mean (variance) of Llama-3-8B-Instruct, 16 of 32 layers routed; it does not say over what the variance is.</p>
{pairs}
<h2>Figures</h2>
{charts}
<h2>Kinds of token</h2>
{classes_table(summary).html()}
<h2>First answer of each task</h2>
{legend(header)}
{examples}
</body>
</html>
"""


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _example(run: Recorded, svg: str) -> str:
    title = html.escape(visible(f"{run.prompt.task}: {run.prompt.title}", " "))
    prompt = html.escape(visible(run.trace.header.prompt, " "))
    return (
        f"<details open><summary>{title}</summary><p class='muted'>{prompt}</p>"
        f"{coloured(run.trace)}<figure>{svg}</figure></details>"
    )
