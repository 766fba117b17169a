"""Trace -> files people keep: JSON lines, CSV, one HTML page of the coloured text. Knows no gradio and no model."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from analysis.glyphs import pieces, visible
from analysis.ramp import depth_colour, ink
from analysis.stats import token_table
from flexidepth.trace import TokenStep, Trace, TraceHeader

# A spreadsheet reads a cell that starts so as a formula; the last four are their full-width twins.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")

STYLE = """
:root { color-scheme: light; }
body { margin: 2.5rem auto; max-width: 52rem; padding: 0 1.25rem; background: #ffffff; color: #1b2330;
  font: 16px/1.5 "IBM Plex Sans", "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; }
h2 { font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; color: #5b6675; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .muted { color: #5b6675; font-size: .9rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2.05; unicode-bidi: plaintext; }
.quote { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid #c9d0da; padding-left: .9rem; }
.token { padding: .16em .05em; border-radius: 3px; box-shadow: inset 0 0 0 1px rgba(10, 45, 92, .28);
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.label { font: .72em "IBM Plex Mono", Consolas, monospace; opacity: .75; user-select: none; }
.raw { font-size: 0; unicode-bidi: isolate; }
.legend { display: flex; flex-wrap: wrap; gap: 2px; margin: .5rem 0; }
.legend span { min-width: 1.9rem; padding: .15rem 0; text-align: center; font-size: .8rem; border-radius: 3px;
  box-shadow: inset 0 0 0 1px rgba(10, 45, 92, .28); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; margin: 0; font-size: .9rem; }
dt { color: #5b6675; } dd { margin: 0; overflow-wrap: anywhere; }
@media print { .token, .legend span { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    lines: Path
    csv: Path
    html: Path


def write_files(trace: Trace, directory: Path) -> ExportedFiles:
    """All three files in `directory`, which must exist. Their names say the run, never the prompt."""
    stem = f"flexidepth-{''.join(c for c in trace.header.run_id if c.isalnum())[:12] or 'run'}"
    files = ExportedFiles(*(directory / f"{stem}.{suffix}" for suffix in ("jsonl", "csv", "html")))
    files.lines.write_text("".join(line + "\n" for line in trace.to_lines()), encoding="utf-8")
    files.csv.write_text(to_csv(trace), encoding="utf-8", newline="")
    files.html.write_text(to_html(trace), encoding="utf-8")
    return files


def to_csv(trace: Trace) -> str:
    """One row a token. Text that a spreadsheet would run gets a leading apostrophe; the JSON lines have it bare."""
    table = token_table(trace)
    table["text"] = [safe_cell(text) for text in table["text"]]
    return table.to_csv(index=False, lineterminator="\r\n")


def safe_cell(text: str) -> str:
    """`text` as an inert cell: no formula, no control character but breaks, nothing that UTF-8 cannot hold."""
    shown = "".join(_escaped(character) for character in text)
    return "'" + shown if text.startswith(("\t", "\r")) or shown.lstrip().startswith(_FORMULA_STARTS) else shown


def to_html(trace: Trace) -> str:
    """The coloured text as one file with no script: legend, model and settings included."""
    header, summary = trace.header, trace.summary()
    mean = summary["mean_layers_used"]
    depth = "no tokens" if mean is None else f"{mean:.2f} of {header.num_layers} layers on average"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>FlexiDepth run {html.escape(visible(header.run_id))}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Layers used for every token</h1>
<p class="muted">{html.escape(visible(header.model, " "))}: {summary["tokens"]} tokens, {depth}.
The colour and number of a token are those of the forward pass that produced it.</p>
{legend(header)}
<h2>Answer</h2>
{coloured(trace)}
<h2>Prompt</h2>
<div class="quote">{_shown(header.prompt)}</div>
<h2>Settings</h2>
<dl>{_settings(trace)}</dl>
</body>
</html>
"""


def coloured(trace: Trace) -> str:
    """The answer's tokens on their colours, each with its number of layers as a title."""
    tokens = (_token(step, trace.header, number) for number, step in enumerate(trace.generated, start=1))
    return f'<div class="text">{"".join(tokens)}</div>'


def _token(step: TokenStep, header: TraceHeader, number: int) -> str:
    background = depth_colour(step.layers_used, header.always_on, header.num_layers)
    title = f"token {number} (id {step.token_id}): {step.layers_used} of {header.num_layers} layers"
    if step.text:
        content = _shown(step.text)
    else:
        content = '<span class="label">end</span>' if step.stop == "end_of_turn" else '<span class="label">byte</span>'
    return (
        f'<span class="token" data-layers="{step.layers_used}" title="{title}"'
        f' style="background-color:{background};color:{ink(background)}">{content}</span>'
    )


def _shown(text: str) -> str:
    """Escaped text in which hidden characters have a visible label beside them."""
    parts = []
    for piece in pieces(text):
        if piece.label is None:
            parts.append(html.escape(piece.text))
        elif piece.text == "\n":
            parts.append(f'<span class="label">{piece.label}</span>\n')
        elif unicodedata.category(piece.text[0]) in ("Cc", "Cs"):  # HTML can hold neither
            parts.append(f'<span class="label">{piece.label}</span>')
        else:
            parts.append(f'<span class="label">{piece.label}</span><span class="raw">{html.escape(piece.text)}</span>')
    return "".join(parts)


def legend(header: TraceHeader) -> str:
    """Every depth that the model can have, on its colour."""
    depths = range(header.always_on, header.num_layers + 1)
    colours = ((depth, depth_colour(depth, header.always_on, header.num_layers)) for depth in depths)
    cells = "".join(f'<span style="background-color:{c};color:{ink(c)}">{depth}</span>' for depth, c in colours)
    label = f"Light to dark blue: {header.always_on} to {header.num_layers} layers"
    return f'<div class="legend" role="img" aria-label="{label}">\n{cells}</div>'


def _settings(trace: Trace) -> str:
    header, summary = trace.header, trace.summary()
    rate = summary["tokens_per_second"]
    rows: Iterable[tuple[str, object]] = (
        ("Model", header.model),
        ("Checkpoint", header.checkpoint),
        ("Layers", f"{header.num_layers}, of which {len(header.routed_layers)} routed"),
        ("Threshold", f"{header.threshold:g}"),
        ("Gate scaling", header.gate_scaling),
        ("Routes", header.routes),
        ("Engine", f"{header.engine}, {header.dtype}"),
        ("Seed", header.seed),
        ("Temperature", f"{header.temperature:g}, top-p {header.top_p:g}"),
        ("New tokens", f"at most {header.max_new_tokens}; stopped: {summary['stop'] or 'before its end'}"),
        ("Chat template", "on" if header.chat else "off"),
        ("Tokens per second", "-" if rate is None else f"{rate:.1f}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in header.versions.items()) or "-"),
        ("Run", header.run_id),
    )
    shown = ((name, html.escape(visible(str(value), " "))) for name, value in rows)
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in shown)


def _escaped(character: str) -> str:
    if character in "\n\t\r" or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    return f"\\u{ord(character):04x}"
