"""Quality against depth: trained runs as points, their table and chart, the published points beside them as quoted.

Values, Markdown and SVG; knows no torch and no model (curve_points.py scores the runs).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from analysis.svg_chart import COLOURS, Line, Panel, svg
from analysis.table import Table
from flexidepth.errors import UsageError

CURVE_FILE = "curve.json"
CURVE_CHART = "curve.svg"

# (share skipped, share of the base's benchmark scores that is kept), in percent.
PAPER = ((12.5, 106.5), (25.0, 100.7))  # 4 and 8 of 32 layers, Llama-3-8B-Instruct, six benchmarks
HERO = ((26.87, 100.24), (38.82, 97.01))  # parameters avoided, Llama-3.1-8B, seven tasks; arXiv 2609.08189


@dataclass(frozen=True)
class Point:
    """One trained run on one text. penalty: alpha at the run's end. kl_to_base, nll and base_nll in nats a token."""

    penalty: float
    target_depth: float | None
    steps: int
    seed: int
    mean_layers_used: float
    kl_to_base: float
    nll: float
    base_nll: float

    @property
    def worse(self) -> float:
        """How much higher the nll is than the base's, as a share of it."""
        return self.nll / self.base_nll - 1


@dataclass(frozen=True)
class Curve:
    """points: one run a penalty. seeds: the final recipe, run once a seed. text: what all were scored on."""

    text: str
    tokens: int
    num_layers: int
    points: tuple[Point, ...]
    seeds: tuple[Point, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def skipped(self, point: Point) -> float:
        """Percent of the layers."""
        return 100 * (1 - point.mean_layers_used / self.num_layers)


def read_curve(path: Path) -> Curve:
    """Raises UsageError when there is no file, or when it holds something else."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        points, seeds = (tuple(Point(**point) for point in found.pop(name)) for name in ("points", "seeds"))
        return Curve(**found, points=points, seeds=seeds)
    except OSError:
        raise UsageError(f"no curve at {path}: make it with python -m analysis curve") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} holds no curve ({error}): make it again with python -m analysis curve") from None


def curve_text(curve: Curve) -> str:
    """Both tables in Markdown."""
    rows = [
        (
            f"{point.penalty:.2g}",
            f"{point.mean_layers_used:.2f}",
            f"{curve.skipped(point):.1f} %",
            f"{point.kl_to_base:.3f}",
            f"{point.worse:+.1%}",
        )
        for point in curve.points
    ]
    head = ("penalty alpha", f"layers of {curve.num_layers}", "skipped", "KL to the base", "nll")
    text = f"{curve.tokens} predicted tokens of {curve.text}:\n\n" + Table(head, rows).markdown()
    return text + (f"\n\n{_seeds_text(curve.seeds)}" if curve.seeds else "")


def _seeds_text(seeds: Sequence[Point]) -> str:
    rows = [
        (str(point.seed), f"{point.mean_layers_used:.2f}", f"{point.kl_to_base:.3f}", f"{point.worse:+.1%}")
        for point in seeds
    ]
    if len(seeds) > 1:
        rows.append(
            (
                "mean ± sd",
                _spread([point.mean_layers_used for point in seeds], "{:.2f} ± {:.2f}"),
                _spread([point.kl_to_base for point in seeds], "{:.3f} ± {:.3f}"),
                _spread([100 * point.worse for point in seeds], "{:+.1f}% ± {:.1f}"),
            )
        )
    return Table(("seed", "layers", "KL to the base", "nll"), rows).markdown()


def _spread(values: Sequence[float], form: str) -> str:
    return form.format(fmean(values), stdev(values))


def curve_svg(curve: Curve) -> str:
    """KL against layers skipped, and beside it what is kept of the base model, with the published points."""
    ordered = sorted(curve.points, key=curve.skipped)
    skipped = [curve.skipped(point) for point in ordered]
    ours, seeds, paper, hero = COLOURS[:4]
    divergence = [
        Line(
            "one run a penalty alpha",
            skipped,
            [point.kl_to_base for point in ordered],
            ours,
            marks=True,
            notes=[f"{point.penalty:.2g}" for point in ordered],
        )
    ]
    kept = [Line("ours: base nll / nll", skipped, [100 / (1 + point.worse) for point in ordered], ours, marks=True)]
    if curve.seeds:
        at = [curve.skipped(point) for point in curve.seeds]
        name = f"final recipe, {len(at)} seed{'s' if len(at) > 1 else ''}"
        divergence.append(Line(name, at, [point.kl_to_base for point in curve.seeds], seeds, marks=True, joined=False))
        kept.append(Line("", at, [100 / (1 + point.worse) for point in curve.seeds], seeds, marks=True, joined=False))
    kept.append(_quoted("FlexiDepth, Llama-3-8B: benchmarks", PAPER, paper))
    kept.append(_quoted("HeRo, Llama-3.1-8B: benchmarks", HERO, hero))
    most = max(point.kl_to_base for point in (*curve.points, *curve.seeds))
    return svg(
        [
            Panel(
                "KL to the base",
                "% of layers skipped",
                "nats a token",
                divergence,
                (0, 1.25 * most),
                (0, 1.2 * max(skipped)),
            ),
            Panel("Kept of the base, two measures", "% of layers skipped", "%", kept, (80, 118), (0, 42)),
        ],
        columns=2,
        height=290,
        caption="Benchmark shares as quoted by their authors; HeRo counts parameters, not layers. "
        f"Ours: {curve.tokens} tokens of {curve.text}.",
    )


def _quoted(name: str, points: Sequence[tuple[float, float]], colour: str) -> Line:
    return Line(name, [x for x, _ in points], [y for _, y in points], colour, marks=True, joined=False)
