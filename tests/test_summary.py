"""The table of recorded runs: numbers worked by hand on tiny runs, and the order of the runs left out of account."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.intervals import ratio_interval
from analysis.recorded import Recorded
from analysis.summary import PAPER_ORDER, summarize_runs
from analysis.token_classes import CLASSES
from tests.recorded_runs import EVERY, NONE, answered, make_recorded

FIRST, SECOND = (True, False), (False, True)
WORDS = ("12", " +", " 30", " =", " 42", " Oslo", ".", "")


def depths(task: str, number: int, *executed: tuple[bool, bool]) -> Recorded:
    return make_recorded([("a", run) for run in executed], task=task, number=number)


def without_intervals(summary: Any) -> Any:
    """Everything but ci95, floats short of the last digits, which hang on the order of a sum."""
    if isinstance(summary, dict):
        return {key: without_intervals(value) for key, value in summary.items() if "ci95" not in key}
    if isinstance(summary, list):
        return [without_intervals(value) for value in summary]
    return round(summary, 9) if isinstance(summary, float) else summary


def test_a_task_by_hand() -> None:
    """Depths 4, 3, 3 and 2: a long and a short answer."""
    found = summarize_runs([depths("copy", 0, EVERY, FIRST, SECOND), depths("copy", 1, NONE)])["tasks"]["copy"]
    assert found["n"] == 2
    assert found["tokens"] == 4
    assert found["mean_layers"] == 3.0, "over tokens; over answers it would be 8/3"
    assert found["var_layers"] == 0.5, "of the four tokens themselves, not of a sample"
    assert found["var_over_prompts"] == pytest.approx((10 / 3 - 2) ** 2 / 2), "of a sample of two answers"
    assert found["per_layer_usage"] == [1.0, 1.0, 0.5, 0.5]
    assert found["ci95"] == [2.0, pytest.approx(10 / 3)]


def test_usage_weighs_tokens_not_answers() -> None:
    runs = [depths("add", 0, FIRST, FIRST, FIRST, FIRST), depths("add", 1, SECOND)]
    assert summarize_runs(runs)["tasks"]["add"]["per_layer_usage"] == [1.0, 1.0, 0.8, 0.2]


def test_usage_has_an_interval_over_answers_for_every_layer() -> None:
    runs = [depths("add", 0, FIRST, FIRST, FIRST, FIRST), depths("add", 1, SECOND)]
    found = summarize_runs(runs)["tasks"]["add"]["per_layer_ci95"]
    assert found == [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]


def test_depth_shares_are_of_tokens() -> None:
    runs = [depths("copy", 0, EVERY, FIRST, SECOND), depths("copy", 1, NONE)]
    assert summarize_runs(runs)["tasks"]["copy"]["depth_shares"] == {"2": 0.25, "3": 0.5, "4": 0.25}


def test_stretches_along_the_answer_hold_every_token_once() -> None:
    runs = [depths("copy", 0, *[EVERY] * 4, *[NONE] * 3), depths("copy", 1, *[FIRST] * 2)]
    first, second = summarize_runs(runs)["tasks"]["copy"]["along"]
    assert (first["first"], first["tokens"], first["mean_layers"]) == (0, 6, pytest.approx((16 + 6) / 6))
    assert first["ci95"] == [3.0, 4.0]
    assert (second["first"], second["tokens"], second["mean_layers"]) == (4, 3, 2.0)
    assert second["ci95"] == [2.0, 2.0], "draws without the long answer say nothing of its end"


def test_one_run_has_no_variance_over_prompts_and_an_interval_without_width() -> None:
    found = summarize_runs([depths("copy", 0, EVERY, NONE)])["tasks"]["copy"]
    assert found["var_over_prompts"] == 0.0
    assert found["var_layers"] == 1.0
    assert found["ci95"] == [3.0, 3.0]


def test_no_runs_make_an_empty_table() -> None:
    assert summarize_runs([]) == {"tasks": {}, "pairs": [], "token_classes": {}}


def test_tokens_of_the_prompt_do_not_count() -> None:
    answer = [("a", NONE), ("b", FIRST)]
    plain = make_recorded(answer, number=0)
    longer = make_recorded(answer, number=0, before=[("Please", EVERY), (" copy", EVERY)])
    assert summarize_runs([longer]) == summarize_runs([plain])
    assert summarize_runs([longer])["tasks"]["copy"]["tokens"] == 2


def test_tasks_are_kept_apart() -> None:
    found = summarize_runs([depths("copy", 0, NONE), depths("chat", 0, EVERY), depths("add", 0, FIRST)])["tasks"]
    assert {task: row["mean_layers"] for task, row in found.items()} == {"copy": 2.0, "chat": 4.0, "add": 3.0}


def test_pairs_are_neighbours_in_the_papers_order() -> None:
    every = [depths(task, number, NONE) for order in PAPER_ORDER for task in order for number in range(2)]
    pairs = summarize_runs(every)["pairs"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        ("copy", "summarize"),
        ("summarize", "continue"),
        ("repeat", "add"),
        ("add", "multiply"),
    ]


@pytest.mark.parametrize(
    ("tasks", "pairs"),
    [
        (["copy", "summarize"], [("copy", "summarize")]),
        (["copy", "continue"], []),
        (["continue", "repeat"], []),
        (["multiply", "add", "copy"], [("add", "multiply")]),
        (["copy"], []),
        (["chat", "copy"], []),
    ],
)
def test_a_pair_is_there_only_where_both_tasks_are(tasks: list[str], pairs: list[tuple[str, str]]) -> None:
    found = summarize_runs(depths(task, number, NONE) for task in tasks for number in range(2))["pairs"]
    assert [(pair["first"], pair["second"]) for pair in found] == pairs


def test_a_pair_is_second_minus_first_over_the_means_of_the_same_inputs() -> None:
    """Input 0: 2 against 3.5. Input 1: 3 against 3. Inputs 7 and 8 have no partner."""
    runs = [
        depths("copy", 0, NONE, NONE, NONE),
        depths("copy", 1, FIRST),
        depths("copy", 7, NONE),
        depths("summarize", 8, EVERY),
        depths("summarize", 1, SECOND, SECOND),
        depths("summarize", 0, EVERY, FIRST),
    ]
    (pair,) = summarize_runs(runs)["pairs"]
    assert pair["difference"] == 0.75
    assert pair["ci95"] == [0.0, 1.5]
    assert pair["p"] == 1.0, "each of the four sign flips is as far from zero"


def test_tasks_without_an_input_in_common_make_no_pair() -> None:
    assert summarize_runs([depths("copy", 0, NONE), depths("summarize", 1, EVERY)])["pairs"] == []


def test_p_values_are_corrected_for_the_number_of_pairs() -> None:
    deeper = {"copy": NONE, "summarize": FIRST, "repeat": NONE, "add": FIRST, "multiply": EVERY}
    pairs = summarize_runs(depths(task, number, run) for task, run in deeper.items() for number in range(8))["pairs"]
    assert len(pairs) == 3
    assert all(pair["p"] == pytest.approx(2 / 256, abs=0.004) for pair in pairs)
    assert {round(pair["p_holm"], 9) for pair in pairs} == {round(3 * pair["p"], 9) for pair in pairs}


def test_token_classes_by_hand() -> None:
    run = make_recorded([("12", NONE), (" +", FIRST), (" 30", EVERY), (" =", NONE), (" 42", FIRST), ("", EVERY)])
    other = make_recorded([("7", EVERY), (" =", NONE), (" 7", EVERY)], task="add")
    found = summarize_runs([run, other])["token_classes"]
    left, right, signs = (found[name] for name in ("digits left of =", "digits right of =", "punctuation"))
    assert (left["runs"], left["tokens"], left["mean_layers"]) == (2, 3, pytest.approx(10 / 3))
    assert left["ci95"] == [3.0, 4.0], "the means of either run alone"
    assert (right["runs"], right["tokens"], right["mean_layers"]) == (2, 2, 3.5)
    assert (signs["runs"], signs["tokens"], signs["mean_layers"]) == (2, 3, pytest.approx(7 / 3))
    assert list(found) == ["digits left of =", "digits right of =", "punctuation"], "as listed, without empty ones"


def test_a_class_counts_only_the_runs_that_have_it() -> None:
    found = summarize_runs([answered("We saw Oslo"), answered("we saw it")])["token_classes"]
    assert (found["name"]["runs"], found["name"]["tokens"]) == (1, 1)
    assert found["other"]["runs"] == 2
    assert list(found) == [name for name in CLASSES if name in found]


def test_the_interval_of_a_task_is_that_of_its_answers() -> None:
    runs = [depths("copy", number, *([EVERY] * number), NONE) for number in range(1, 9)]
    expected = ratio_interval([4 * number + 2 for number in range(1, 9)], [number + 1 for number in range(1, 9)])
    found = summarize_runs(runs)["tasks"]["copy"]
    assert found["mean_layers"] == expected.mean
    width = expected.high - expected.low
    assert found["ci95"] == pytest.approx([expected.low, expected.high], abs=0.04 * width)


executed = st.sampled_from([EVERY, FIRST, SECOND, NONE])
answers = st.lists(st.tuples(st.sampled_from(WORDS), executed), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(answers, answers, answers), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_runs_changes_no_number(made, order: random.Random) -> None:
    runs = [
        make_recorded(tokens, task=task, number=number)
        for number, row in enumerate(made)
        for task, tokens in zip(("repeat", "add", "multiply"), row, strict=True)
    ]
    shuffled = order.sample(runs, len(runs))
    found, again = summarize_runs(runs), summarize_runs(shuffled)
    assert without_intervals(again) == without_intervals(found)
    assert again["pairs"] == found["pairs"], "pairs are sorted by input, so their intervals are the same too"


def test_the_order_of_the_runs_changes_no_interval() -> None:
    source = random.Random(0)
    runs = [
        depths("copy", number, *source.choices([EVERY, FIRST, NONE], k=source.randint(1, 60))) for number in range(20)
    ]
    found, turned = summarize_runs(runs), summarize_runs(runs[::-1])
    assert turned["tasks"]["copy"]["ci95"] == found["tasks"]["copy"]["ci95"]
    assert turned["token_classes"]["other"]["ci95"] == found["token_classes"]["other"]["ci95"]
