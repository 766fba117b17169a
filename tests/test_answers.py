"""Judgements of answers: right and wrong ones of each task, the tricky ones by hand, and nearness to the base's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.answers import is_right, judge, word_overlap
from analysis.recorded import Prompt
from tests.recorded_runs import EVERY, NONE, answered, make_recorded

PASSAGE = "The ferry left at dawn, and nobody said a word."


def right(task: str, source: str, answer: str) -> bool | None:
    return is_right(Prompt(task, 0, "made for a test", source, "do it: " + source), answer)


@pytest.mark.parametrize(
    "answer", [PASSAGE, f"  {PASSAGE}\n", PASSAGE.replace(" ", "\n", 2), PASSAGE.replace(", ", ",  ")]
)
def test_a_copy_may_have_other_white_space(answer: str) -> None:
    assert right("copy", PASSAGE, answer) is True


@pytest.mark.parametrize(
    "answer",
    [
        "",
        PASSAGE[:-1],
        PASSAGE.replace("dawn", "noon"),
        PASSAGE.lower(),
        PASSAGE.replace("at dawn", "atdawn"),
        f"{PASSAGE} {PASSAGE}",
        f"Here is the copy: {PASSAGE}",
    ],
)
def test_a_copy_changed_cut_off_or_spoken_about_is_none(answer: str) -> None:
    assert right("copy", PASSAGE, answer) is False


LIST = "[12, 34]"


@pytest.mark.parametrize(
    "answer",
    [
        "\n".join([LIST] * 5),
        ", ".join([LIST] * 5),
        "\n".join(["12, 34"] * 5),
        ",\n".join(["12, 34"] * 5),
        ", ".join(["12, 34"] * 5),
        "\n".join(f"{number}. [12, 34]" for number in range(1, 6)),
        "Here is the list repeated 5 times:\n\n" + "\n".join([LIST] * 5) + "\n\nDone.",
    ],
)
def test_a_list_five_times_is_right_with_brackets_or_without(answer: str) -> None:
    assert right("repeat", LIST, answer) is True


@pytest.mark.parametrize("times", [0, 1, 4, 6, 10])
@pytest.mark.parametrize("form", ["[12, 34]\n", "12, 34\n", "12, 34, "])
def test_a_list_another_number_of_times_is_wrong(form: str, times: int) -> None:
    assert right("repeat", LIST, form * times) is False


@pytest.mark.parametrize("longer", ["12, 34, 56", "112, 34", "12, 345", "99, 12, 34", "99, 12, 34, 56"])
def test_a_list_within_a_longer_one_does_not_count(longer: str) -> None:
    assert right("repeat", LIST, f"[{longer}]\n" * 5) is False
    assert right("repeat", LIST, f"[{longer}]\n" + f"{LIST}\n" * 4) is False


@pytest.mark.parametrize("other", ["[34, 12]", "[12, 35]", "[12]", "[1234]"])
def test_another_list_is_wrong(other: str) -> None:
    assert right("repeat", LIST, f"{other}\n" * 5) is False


SUMS = "[1200, 30, 4]"


@pytest.mark.parametrize(
    "answer",
    [
        "1234",
        "1,234",
        "The sum is 1234.",
        "The sum is 1,234.",
        "1200 + 30 = 1230\n1230 + 4 = 1,234",
        "1200 + 30 + 4 = **1234**",
        "1234!\n",
    ],
)
def test_a_sum_is_right_with_and_without_commas(answer: str) -> None:
    assert right("add", SUMS, answer) is True


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot add these.",
        "The sum is 1235.",
        "The sum is 12345.",
        "The sum is 11,234.",
        "The sum is 1,234,000.",
        "The sum is 234.",
        "The sum is 1234. There are 3 numbers.",
        "1234 = 1200 + 30 + 4",
        "The sum is 1234.5",
    ],
)
def test_a_sum_that_is_not_the_last_number_is_wrong(answer: str) -> None:
    assert right("add", SUMS, answer) is False


@pytest.mark.parametrize("answer", ["The sum is 3.42", "The mean is 1.42.", "0.42", "1,000.42"])
def test_the_fraction_of_a_decimal_is_no_number_of_its_own(answer: str) -> None:
    assert right("add", "[12, 30]", answer) is False


@pytest.mark.parametrize("answer", ["The sum is 42.0", "42.00."])
def test_a_sum_written_as_a_decimal_is_the_same_number(answer: str) -> None:
    assert right("add", "[12, 30]", answer) is True


def test_a_product_is_not_a_sum() -> None:
    assert right("multiply", "[12, 30]", "12 * 30 = 360") is True
    assert right("multiply", "[12, 30]", "12 + 30 = 42") is False
    assert right("add", "[12, 30]", "12 * 30 = 360") is False


@given(st.sampled_from([("add", sum), ("multiply", math.prod)]), st.lists(st.integers(10, 99), min_size=1), st.data())
def test_any_result_is_right_and_any_other_number_wrong(task, numbers: list[int], data: st.DataObject) -> None:
    name, operation = task
    result = operation(numbers)
    other = data.draw(st.integers(0, 2 * result).filter(lambda number: number != result))
    for form in ("{}", "So it is {:,}.", "12 and 7 make {}\n"):
        assert right(name, str(numbers), form.format(result)) is True
        assert right(name, str(numbers), form.format(other)) is False


@given(st.lists(st.integers(10, 99), min_size=5, max_size=10), st.integers(0, 9))
def test_any_list_is_right_five_times_only(numbers: list[int], times: int) -> None:
    for line in (str(numbers), str(numbers)[1:-1]):
        assert right("repeat", str(numbers), "\n".join([line] * times)) is (times == 5)


@pytest.mark.parametrize("task", ["summarize", "continue", "chat"])
def test_open_tasks_have_no_right_answer(task: str) -> None:
    assert right(task, PASSAGE, PASSAGE) is None


def test_a_judgement_of_an_answer_equal_to_the_base() -> None:
    run = answered("The ferry left.", source="The ferry left.")
    found = judge(run, run)
    assert (found.right, found.same_as_base, found.overlap, found.shared) == (True, True, 1.0, 1.0)
    assert (found.runaway, found.tokens) == (False, 4)


def test_a_judgement_is_of_the_routed_run_not_of_the_base() -> None:
    words = ("The", " ferry", " left", " at", " dawn")
    routed = make_recorded(
        [(word, NONE) for word in words[:4]], source="The ferry left at dawn", stop="max_new_tokens"
    )
    base = make_recorded([(word, EVERY) for word in words], source="The ferry left at dawn")
    ours, theirs = judge(routed, base), judge(base, routed)
    assert (ours.right, ours.runaway, ours.tokens) == (False, True, 4)
    assert (theirs.right, theirs.runaway, theirs.tokens) == (True, False, 5)
    assert not ours.same_as_base
    assert ours.overlap == theirs.overlap == pytest.approx(8 / 9)
    assert ours.shared == theirs.shared == 0.8


@pytest.mark.parametrize(("stop", "runaway"), [("end_of_turn", False), ("max_new_tokens", True)])
def test_only_an_answer_cut_at_its_limit_is_a_runaway(stop: str, runaway: bool) -> None:
    run = answered("and so on and so on", stop=stop)
    assert judge(run, run).runaway is runaway


@pytest.mark.parametrize(
    ("ours", "theirs", "shared"),
    [
        (["a", "b", "c", "d"], ["a", "b", "c", "d"], 1.0),
        (["a", "b", "x", "d"], ["a", "b", "c", "d"], 0.5),
        (["x", "b", "c", "d"], ["a", "b", "c", "d"], 0.0),
        (["a", "b"], ["a", "b", "c", "d", "e", "f", "g", "h"], 0.25),
        (["a", "b", "c", "d"], ["a"], 0.25),
        (["a", "x"], ["a", "b", "c", "d"], 0.25),
        (["a", ""], ["a", ""], 1.0),
    ],
)
def test_shared_tokens_lead_and_count_against_the_longer_answer(
    ours: list[str], theirs: list[str], shared: float
) -> None:
    runs = [make_recorded([(text, EVERY) for text in texts]) for texts in (ours, theirs)]
    assert judge(*runs).shared == shared


def test_the_same_text_in_other_tokens_is_the_same_answer_and_shares_no_token() -> None:
    cut = make_recorded([("fer", EVERY), ("ry", EVERY)])
    whole = make_recorded([("ferry", EVERY)])
    found = judge(cut, whole)
    assert (found.same_as_base, found.overlap, found.shared) == (True, 1.0, 0.0)


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("The ferry left.", "The ferry left.", 1.0),
        ("The ferry left.", "left the FERRY", 1.0),
        ("one two", "three four", 0.0),
        ("one two", "", 0.0),
        ("", "one two", 0.0),
        ("", "", 1.0),
        ("a b c d", "a b", 2 / 3),
        ("a a a", "a", 0.5),
        ("a a b", "a b b", 2 / 3),
        ("a a b", "a a c", 2 / 3),
        ("ferries", "ferry", 0.0),
    ],
)
def test_overlap_by_hand(first: str, second: str, overlap: float) -> None:
    assert word_overlap(first, second) == pytest.approx(overlap)


words = st.lists(st.sampled_from(["the", "The", "ferry", "left", "12", ",", "."]), max_size=12).map(" ".join)


@given(words, words)
def test_overlap_has_no_sides_and_stays_within_zero_and_one(first: str, second: str) -> None:
    assert word_overlap(first, second) == word_overlap(second, first)
    assert 0.0 <= word_overlap(first, second) <= 1.0
    assert word_overlap(first, first) == 1.0
