"""Tables as Markdown and HTML: the same cells, and no cell is markup."""

from __future__ import annotations

from analysis.table import Table

TABLE = Table(("task", "mean"), [("copy", "1.00"), ("<b>&", "2.00")])


def test_markdown_has_a_rule_below_its_head():
    assert TABLE.markdown() == "| task | mean |\n| --- | --- |\n| copy | 1.00 |\n| <b>& | 2.00 |"


def test_html_names_rows_and_columns_and_escapes_cells():
    text = TABLE.html()
    assert '<th scope="col">task</th><th scope="col">mean</th>' in text
    assert '<tr><th scope="row">copy</th><td>1.00</td></tr>' in text
    assert "&lt;b&gt;&amp;" in text
    assert "<b>" not in text
