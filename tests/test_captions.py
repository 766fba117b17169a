"""Captions: every word that a figure in a paper needs, and no mark-up from a model's name."""

from __future__ import annotations

from dataclasses import replace

from analysis.captions import figure_captions, made_with, run_caption
from analysis.recorded import Recorded
from tests.recorded_runs import EVERY, NONE, make_recorded

RUNS = [
    make_recorded([(" a", EVERY), (" b", NONE)], task=task, number=n) for task in ("copy", "add") for n in range(3)
]
HEADER = RUNS[0].trace.header


def with_header(run: Recorded, **changes: object) -> Recorded:
    return replace(run, trace=replace(run.trace, header=replace(run.trace.header, **changes)))


def test_a_figure_of_several_runs_says_model_checkpoint_threshold_n_and_how_it_was_drawn() -> None:
    words = made_with(RUNS)
    assert words == (
        f"{HEADER.model}, checkpoint {HEADER.checkpoint}, threshold {HEADER.threshold:g}, routes {HEADER.routes}; "
        f"up to 3 inputs a task, greedy, at most {HEADER.max_new_tokens} tokens"
    )
    drawn = made_with([with_header(RUNS[0], temperature=0.7, seed=5)])
    assert "up to 1 input a task, temperature 0.7, seed 5," in drawn


def test_every_figure_has_a_caption_with_its_numbers() -> None:
    captions = figure_captions(RUNS)
    assert set(captions) == {"bowls", "depths", "along", "classes"}
    for words in captions.values():
        assert words.endswith(f"{made_with(RUNS)} (6 answers, 12 tokens).")
    assert "Bands: 95 %" in captions["bowls"]
    assert "Bands" not in figure_captions([run for run in RUNS if run.prompt.number == 0])["bowls"]
    assert len({words.split(".")[0] for words in captions.values()}) == 4


def test_one_run_says_its_tokens_and_its_depth() -> None:
    run = RUNS[0].trace
    depth = sum(step.layers_used for step in run.generated) / 2
    assert f"2 tokens, greedy, {depth:.2f} of {HEADER.num_layers} layers used on average." in run_caption(run)


def test_a_models_name_cannot_break_the_line() -> None:
    assert "\n" not in run_caption(with_header(RUNS[0], model="a\nb").trace)
