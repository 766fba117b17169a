"""How long a token takes. Contenders answer the same prompts in turn, so that whatever else the machine does falls on
all of them alike; medians are compared.

Knows contenders only by their protocol; knows no model and no file.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from flexidepth.contenders import Contender, Timed

_COPY_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Depth:
    tokens: int
    ms_p50: float


@dataclass(frozen=True)
class Row:
    """One contender at one context. over_*: tokens a second over those of that row. byte_ideal: bytes that its own
    vanilla reads a token over bytes that it reads; share_of_ideal: over_vanilla / byte_ideal. memory_mb: weights.
    by_depth: by the number of layers that a token ran, as text.
    """

    name: str
    context: int
    tokens_per_second: float
    spread: list[float]  # slowest and fastest round
    ms_p50: float
    ms_p95: float
    first_token_ms: float
    mean_layers_used: float
    memory_mb: float
    gigabytes_per_second: float | None = None
    share_of_copy: float | None = None
    over_vanilla: float | None = None
    over_transformers: float | None = None
    byte_ideal: float | None = None
    share_of_ideal: float | None = None
    by_depth: dict[str, Depth] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """rows, and copy_gb_s: bytes read and written a second by a plain copy, the machine's yardstick. refused: names of
    rows that were to skip layers and skipped none.
    """

    rows: list[Row]
    copy_gb_s: float
    refused: list[str] = field(default_factory=list)


def measure(
    contenders: Sequence[Contender],
    prompts: dict[int, list[int]],
    *,
    tokens: int,
    rounds: int,
    num_layers: int,
    num_routed: int,
    report: Callable[[], object],
    device: str = "cpu",
) -> Result:
    """prompts: token ids by context length. tokens: in each answer. report is called after every answer, and once for
    each contender's first, which is not counted. device: whose memory a copy is timed in.
    """
    runs: dict[tuple[int, int], list[Timed]] = {}
    copies = []
    for context, ids in prompts.items():
        for contender in contenders:
            contender.run(ids, 4)
            report()
        for turn in range(rounds):
            copies.append(_copy(device))
            for place in range(len(contenders)):
                number = (place + turn) % len(contenders)  # nobody always follows the same one
                runs.setdefault((number, context), []).append(contenders[number].run(ids, tokens))
                report()
    copy = statistics.median(copies)
    rows, refused = [], []
    for context in prompts:
        table = [
            _row(contender, runs[number, context], context, tokens, copy, num_layers, num_routed)
            for number, contender in enumerate(contenders)
        ]
        kept = [row for row in table if not _shows_nothing(row, num_layers)]
        refused += [f"{row.name} at {context}" for row in table if row not in kept]
        rows += _compared(kept, {row.name: row for row in table})
    return Result(rows, copy, refused)


def _row(
    contender: Contender,
    runs: Sequence[Timed],
    context: int,
    tokens: int,
    copy: float,
    num_layers: int,
    num_routed: int,
) -> Row:
    steps = sorted(1000 * seconds for run in runs for seconds in run.steps)
    p50 = statistics.median(steps)
    executed = [flags for run in runs for flags in run.executed or ()]
    shares = [sum(column) / len(executed) for column in zip(*executed, strict=True)] if executed else None
    positions = context + tokens / 2
    read = contender.bytes_read(shares, positions)
    vanilla = contender.bytes_read(None, positions)
    speed = None if read is None else read / p50 / 1e6
    return Row(
        name=contender.name,
        context=context,
        tokens_per_second=1000 / p50,
        spread=[
            1 / max(statistics.median(run.steps) for run in runs),
            1 / min(statistics.median(run.steps) for run in runs),
        ],
        ms_p50=p50,
        ms_p95=steps[int(0.95 * (len(steps) - 1))],
        first_token_ms=1000 * statistics.median(run.first for run in runs),
        mean_layers_used=float(num_layers) if shares is None else num_layers - num_routed + sum(shares),
        memory_mb=contender.weight_bytes / 1e6,
        gigabytes_per_second=speed,
        share_of_copy=None if speed is None else speed / copy,
        byte_ideal=None if read is None or vanilla is None else vanilla / read,
        by_depth=_by_depth(runs, num_layers - num_routed),
    )


def _by_depth(runs: Sequence[Timed], always_on: int) -> dict[str, Depth]:
    found: defaultdict[int, list[float]] = defaultdict(list)
    for run in runs:
        for seconds, flags in zip(run.steps, run.executed or (), strict=run.executed is not None):
            found[always_on + sum(flags)].append(1000 * seconds)
    return {str(layers): Depth(len(found[layers]), statistics.median(found[layers])) for layers in sorted(found)}


def _shows_nothing(row: Row, num_layers: int) -> bool:
    """A row that is to show the gain of skipping and skips nothing would only show noise."""
    return (
        row.name.split()[-1] in ("learned", "static", "none")
        and row.byte_ideal is not None
        and (row.mean_layers_used >= num_layers - 1e-9)
    )


def _compared(rows: Sequence[Row], all_rows: dict[str, Row]) -> list[Row]:
    found = []
    for row in rows:
        own = all_rows.get(f"{row.name.rsplit(' ', 1)[0]} vanilla")
        theirs = all_rows.get("transformers dynamic")
        over = None if own is None else row.tokens_per_second / own.tokens_per_second
        values = {
            "over_vanilla": over,
            "over_transformers": None if theirs is None else row.tokens_per_second / theirs.tokens_per_second,
            "share_of_ideal": None if over is None or row.byte_ideal is None else over / row.byte_ideal,
        }
        found.append(Row(**{**vars(row), **values}))
    return found


def _copy(device: str) -> float:
    """Gigabytes a second, read and written, of a copy too large for the caches."""
    source = torch.ones(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(3):
        _finish(device)
        started = time.perf_counter()
        target.copy_(source)
        _finish(device)
        times.append(time.perf_counter() - started)
    return 2 * _COPY_BYTES / min(times) / 1e9


def _finish(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


COLUMNS = (
    ("tokens/s", lambda row: f"{row.tokens_per_second:.1f}"),
    ("rounds", lambda row: f"{row.spread[0]:.0f}-{row.spread[1]:.0f}"),
    ("p50 ms", lambda row: f"{row.ms_p50:.1f}"),
    ("p95 ms", lambda row: f"{row.ms_p95:.1f}"),
    ("first ms", lambda row: f"{row.first_token_ms:.0f}"),
    ("layers", lambda row: f"{row.mean_layers_used:.2f}"),
    ("GB/s", lambda row: _optional(row.gigabytes_per_second, ".1f")),
    ("of copy", lambda row: _optional(row.share_of_copy, ".0%")),
    ("x vanilla", lambda row: _optional(row.over_vanilla, ".3f")),
    ("ideal", lambda row: _optional(row.byte_ideal, ".3f")),
    ("of ideal", lambda row: _optional(row.share_of_ideal, ".3f")),
    ("x transformers", lambda row: _optional(row.over_transformers, ".2f")),
    ("MB", lambda row: f"{row.memory_mb:.0f}"),
)


def _optional(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def table(rows: Sequence[Row]) -> str:
    """Rows as text, in columns; one table a context."""
    lines = []
    for context in dict.fromkeys(row.context for row in rows):
        cells = [[f"context {context}", *(name for name, _ in COLUMNS)]]
        cells += [[row.name, *(show(row) for _, show in COLUMNS)] for row in rows if row.context == context]
        widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
        lines += [
            "  ".join(
                cell.ljust(width) if not place else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        lines.append("")
    return "\n".join(lines)
