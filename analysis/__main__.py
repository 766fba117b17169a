"""python -m analysis: records runs, counts them, and writes what others read. Torch only where a model runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flexidepth.errors import FlexiDepthError, UsageError


def main() -> int:
    options = _parser().parse_args()
    try:
        options.command(options)
    except FlexiDepthError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="answer the six tasks and keep every token: DIR/traces.jsonl, summary.json")
    run.add_argument("--suite", default="all", help="language, math or all, or a file of prompts (%(default)s)")
    run.add_argument("--n", type=int, default=100, help="inputs a task (%(default)s)")
    run.add_argument(
        "--passages", metavar="DATASET", help="test split that gives the passages, such as EdinburghNLP/xsum (ours)"
    )
    run.add_argument("--routes", choices=("learned", "all", "none"), default="learned", help="%(default)s")
    run.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="%(default)s")
    run.add_argument("--temperature", type=float, default=0.0, metavar="T", help="%(default)s")
    run.add_argument("--seed", type=int, default=0, metavar="S", help="%(default)s")
    run.add_argument("--threshold", type=float, metavar="X", help="a gate above it runs its layer (the checkpoint's)")
    run.add_argument("--batch", type=int, default=16, metavar="B", help="prompts side by side (%(default)s)")
    _add_model(run)
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="DIR/traces.jsonl -> report.html, figures, tables, patterns")
    report.add_argument("directory", type=Path, metavar="DIR")
    report.set_defaults(command=_report)

    results = commands.add_parser("results", help="a checkpoint's final numbers on the shipped held-out inputs")
    results.add_argument("--n", type=int, default=16, help="inputs a task (%(default)s)")
    _add_model(results)
    results.set_defaults(command=_results)

    curve = commands.add_parser("curve", help="trained runs as points of quality against depth: table and chart")
    curve.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directories that train wrote, one a penalty")
    curve.add_argument(
        "--seeds", nargs="+", type=Path, default=[], metavar="RUN", help="runs of the final recipe, one a seed"
    )
    curve.add_argument("--text", type=Path, metavar="FILE", help="what to score them on (our conversations)")
    curve.add_argument("--out", type=Path, required=True, metavar="DIR")
    curve.set_defaults(command=_curve)
    latency = commands.add_parser("latency", help="a token's time against the layers it ran: chart of a benchmark")
    latency.add_argument(
        "bench", type=Path, metavar="BENCH.json", help="what python -m flexidepth bench --json printed"
    )
    latency.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    latency.set_defaults(command=_latency)

    card = commands.add_parser(
        "card", help="README.md and charts of a checkpoint, from its training record, scores and results"
    )
    card.add_argument("directory", type=Path, metavar="DIR")
    card.add_argument("--title", required=True)
    card.add_argument("--hardware", required=True, help="what the training ran on, in words")
    card.set_defaults(command=_card)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="smollm2-135m", help="bundled name, directory or Hub id (%(default)s)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")


def _run(options: argparse.Namespace) -> None:
    import json

    from analysis.collect import Collection, collect, processes
    from analysis.recorded import read_recorded
    from analysis.summary import summarize_runs

    collection = Collection(
        suite=options.suite,
        n=options.n,
        passages=options.passages,
        routes=options.routes,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        seed=options.seed,
        threshold=options.threshold,
        batch=options.batch,
    )
    state = processes()  # before the model is loaded: it chooses this process's device
    with _Bar() as bar:
        path = collect(*_load(options.model), collection, options.out, bar.of(f"{options.suite} tasks"))
    if state.is_main_process:
        summary = options.out / "summary.json"
        summary.write_text(json.dumps(summarize_runs(read_recorded(path)), indent=1) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path}\n{summary}\n")
    state.wait_for_everyone()
    state.destroy_process_group()  # left to the interpreter's end, its threads may abort the process


def _report(options: argparse.Namespace) -> None:
    from analysis.pictures import NoPicturesError, write_pictures
    from analysis.report import FIGURES, write_report

    path = write_report(options.directory)
    sys.stdout.write(f"{path}\n")
    try:
        write_pictures(sorted((options.directory / FIGURES).glob("*.svg")))
    except NoPicturesError as error:
        sys.stderr.write(f"note: {error}\n")


def _results(options: argparse.Namespace) -> None:
    from analysis.results import make_results
    from analysis.results_tables import results_text

    model, tokenizer = _load(options.model)
    with _Bar() as bar:
        path = make_results(model, tokenizer, options.out, n=options.n, report=bar)
    sys.stdout.write(f"{results_text(path)}\n{path}\n")


def _latency(options: argparse.Namespace) -> None:
    from analysis.latency import latency_svg, read_bench

    drawn = latency_svg(read_bench(options.bench))
    try:
        options.out.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written ({error.strerror}): choose another --out") from None
    sys.stdout.write(f"{options.out}\n")


def _curve(options: argparse.Namespace) -> None:
    from analysis.curve import CURVE_CHART, CURVE_FILE, curve_svg, curve_text
    from analysis.curve_points import make_curve
    from analysis.results import CONVERSATIONS_FILE

    _quiet()
    with _Bar() as bar:
        curve = make_curve(options.runs, options.seeds, options.text or CONVERSATIONS_FILE, report=bar)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / CURVE_FILE).write_text(curve.to_json(), encoding="utf-8")
    (options.out / CURVE_CHART).write_text(curve_svg(curve), encoding="utf-8")
    sys.stdout.write(f"{curve_text(curve)}\n{options.out / CURVE_FILE}\n{options.out / CURVE_CHART}\n")


def _card(options: argparse.Namespace) -> None:
    from analysis.card import write_card

    sys.stdout.write(f"{write_card(options.directory, options.title, options.hardware)}\n")


def _load(name: str) -> tuple[Any, Any]:
    from flexidepth.checkpoint import load

    _quiet()
    return load(name, progress=_say)


def _quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class _Bar:
    """One progress bar after another, a new one for each thing that is done."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._make = tqdm
        self._what = ""
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, what: str, done: int, of_all: int) -> None:
        if what != self._what:
            self.__exit__()
            self._what, self._bar = what, self._make(total=of_all, desc=what, file=sys.stderr)
        self._bar.update(done - self._bar.n)

    def of(self, what: str) -> Callable[[int, int], None]:
        return lambda done, of_all: self(what, done, of_all)


if __name__ == "__main__":
    raise SystemExit(main())
