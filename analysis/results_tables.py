"""results.json -> what people read of it: tables, and a chart as SVG.

Every number comes from the file; the authors' are quoted. Knows no torch and no model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.pattern_charts import bowls_svg
from analysis.table import Table
from flexidepth.errors import UsageError

RESULTS_FILE = "results.json"
USAGE_FILE = "usage-by-task.svg"
PAPER_MEANS = {  # Llama-3-8B-Instruct, 32 layers of which 16 are routed: mean layers a token, variance
    "copy": (21.95, 6.05),
    "summarize": (28.65, 18.3),
    "continue": (30.27, 12.6),
    "repeat": (20.09, 8.08),
    "add": (22.45, 14.7),
    "multiply": (23.90, 21.6),
}
ROUTE_NAMES = {
    "learned": "learned",
    "random": "random, each layer at its learned rate",
    "static": "static, the same layers for every token",
    "static-equal": "static at exactly the learned depth",
}


def read_results(path: Path) -> dict[str, Any]:
    """Raises UsageError when there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"no results at {path}: make them with make results") from None


def results_text(path: Path) -> str:
    """All tables, one after another."""
    found = read_results(path)
    return "\n\n".join(
        (scores_text(found), answers_text(found), patterns_text(found), classes_table(found["patterns"]).markdown())
    )


def scores_text(found: dict[str, Any]) -> str:
    """nll, KL and depth with learned routes and both controls."""
    parts = []
    for source, scores in found["scores"].items():
        learned = scores["learned"]
        rows = [
            (
                ROUTE_NAMES[routes],
                f"{score['mean_layers_used']:.2f}",
                f"{score['nll']:.4f} ({score['nll'] / score['base_nll'] - 1:+.1%})",
                f"{score['kl_to_base']:.4f}",
                f"{score['kl_to_base'] / learned['kl_to_base']:.1f}",
            )
            for routes, score in scores.items()
        ]
        parts.append(
            f"Our {source}, {learned['documents']} with {learned['tokens']} predicted tokens "
            f"(base nll {learned['base_nll']:.4f}):\n\n"
            + Table(
                ("routes", f"layers of {found['num_layers']}", "nll", "KL to the base", "KL / learned"), rows
            ).markdown()
        )
    return "\n\n".join(parts)


def answers_text(found: dict[str, Any]) -> str:
    """Right answers, agreement with the base model, answers that never end, length."""
    rows = [
        (
            task,
            _share(one["right"]),
            _share(one["base_right"]),
            _share(one["same_as_base"]),
            f"{one['overlap_with_base']:.2f}",
            f"{_share(one['runaway'])} / {_share(one['base_runaway'])}",
            f"{one['tokens']:.0f} / {one['base_tokens']:.0f}",
        )
        for task, one in found["answers"].items()
    ]
    head = ("task", "right", "base right", "same text as base", "word overlap", "runaways / base", "tokens / base")
    counted = f"Greedy answers to {found['n']} inputs a task, {found['max_new_tokens']} tokens at most:"
    return f"{counted}\n\n{Table(head, rows).markdown()}"


def patterns_text(found: dict[str, Any]) -> str:
    """Layers used by task beside the paper's, and the differences between neighbours in the paper's order."""
    patterns = found["patterns"]
    between = "The paper's order, same inputs pair by pair:"
    return f"{tasks_table(patterns).markdown()}\n\n{between}\n\n{pairs_table(patterns).markdown()}"


def tasks_table(patterns: dict[str, Any]) -> Table:
    """patterns: what summary.py makes."""
    rows = [
        (
            task,
            f"{one['mean_layers']:.2f} ({one['ci95'][0]:.2f} to {one['ci95'][1]:.2f})",
            f"{one['var_layers']:.2f}",
            f"{one['var_over_prompts']:.2f}",
            "{:.2f} ({:.2f})".format(*PAPER_MEANS[task]) if task in PAPER_MEANS else "-",
        )
        for task, one in patterns["tasks"].items()
    ]
    head = ("task", "mean layers (95 %)", "variance over tokens", "variance over prompts", "paper, Llama-3-8B")
    return Table(head, rows)


def pairs_table(patterns: dict[str, Any]) -> Table:
    rows = [
        (
            f"{pair['second']} minus {pair['first']}",
            f"{pair['difference']:+.2f} ({pair['ci95'][0]:+.2f} to {pair['ci95'][1]:+.2f})",
            f"{pair['p_holm']:.4f}",
            "yes" if pair["ci95"][0] > 0 else "no: reversed" if pair["ci95"][1] < 0 else "undecided",
        )
        for pair in patterns["pairs"]
    ]
    return Table(("difference of means", "layers (95 %)", "p, Holm", "deeper, as in the paper?"), rows)


def classes_table(patterns: dict[str, Any]) -> Table:
    """Mean depth of token classes."""
    rows = [
        (name, str(one["tokens"]), f"{one['mean_layers']:.2f} ({one['ci95'][0]:.2f} to {one['ci95'][1]:.2f})")
        for name, one in patterns["token_classes"].items()
    ]
    return Table(("token class", "tokens", "mean layers (95 %)"), rows)


def usage_svg(found: dict[str, Any]) -> str:
    """Share of generated tokens that each routed layer processed: language and maths panels, one curve a task."""
    caption = f"{found['n']} inputs a task, greedy; checkpoint {found['checkpoint']}, threshold {found['threshold']:g}"
    return bowls_svg(found["patterns"], found["routed_layers"], caption)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
