"""A table for readers, as Markdown for a card and as HTML for a report. Knows words alone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.glyphs import visible


@dataclass(frozen=True)
class Table:
    """Cells are text already; the first column names its row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def html(self) -> str:
        head = "".join(f'<th scope="col">{_shown(cell)}</th>' for cell in self.head)
        rows = "".join(
            f'<tr><th scope="row">{_shown(row[0])}</th>'
            + "".join(f"<td>{_shown(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _shown(cell: str) -> str:
    return html.escape(visible(cell, " "))
