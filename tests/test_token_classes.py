"""Classes of tokens: equations, sentences, names and copied spans by hand; the text alone decides, not its cuts."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.token_classes import CLASSES, classes
from tests.recorded_runs import EVERY, NONE, Token, answered, make_recorded, pieces

LEFT, RIGHT, FIRST, SIGN, COPIED, NAME, OTHER = CLASSES


def classes_of(texts: list[str], source: str = "") -> list[set[str]]:
    return classes(make_recorded([(text, EVERY) for text in texts], source=source))


def holding(name: str, text: str, source: str = "") -> list[str]:
    """The tokens of a text, blanks aside, of which a class holds."""
    found = classes(answered(text, source=source))
    return [piece.strip() for piece, names in zip(pieces(text), found, strict=True) if name in names]


def test_digits_of_an_equation_stand_left_or_right_of_it() -> None:
    assert classes_of(["12", " +", " 30", " =", " 42"]) == [{LEFT}, {SIGN}, {LEFT}, {SIGN}, {RIGHT}]


def test_an_equation_cut_off_at_its_sign_has_a_left_side() -> None:
    assert classes_of(["12", " +", " 30", " ="]) == [{LEFT}, {SIGN}, {LEFT}, {SIGN}]


def test_digits_cut_one_by_one_stand_where_their_number_does() -> None:
    assert classes_of(["1", "2", " =", " ", "1", "2"]) == [{LEFT}, {LEFT}, {SIGN}, {OTHER}, {RIGHT}, {RIGHT}]


def test_each_line_has_its_own_equation() -> None:
    text = "12 + 30 = 42\n42 + 58 = 100\nand 7 more"
    assert holding(LEFT, text) == ["12", "30", "42", "58"]
    assert holding(RIGHT, text) == ["42", "100"]


def test_what_stands_between_two_equals_signs_restates_a_result() -> None:
    text = "1 + 2 + 3 = 3 + 3 = 6"
    assert holding(LEFT, text) == ["1", "2", "3"]
    assert holding(RIGHT, text) == ["3", "3", "6"]


def test_digits_without_an_equation_are_other() -> None:
    assert holding(OTHER, "12, 34") == ["12", "34"]
    assert holding(LEFT, "12, 34") == holding(RIGHT, "12, 34") == []


def test_a_line_end_within_a_digits_token_ends_its_equation() -> None:
    assert classes_of(["42\n", "3", " =", " 3"]) == [{OTHER}, {LEFT}, {SIGN}, {RIGHT}]


def test_words_beside_an_equation_are_no_digits() -> None:
    assert classes_of(["sum", " =", " 42", " apples"]) == [{FIRST}, {SIGN}, {RIGHT}, {OTHER}]


@pytest.mark.parametrize(
    ("text", "firsts"),
    [
        ("The ferry left. It was late! why? nobody said", ["The", "It", "why", "nobody"]),
        ('"Yes." Then he went. "No."', ["Yes", "Then", "No"]),
        ("(Rain came) and went", ["Rain"]),
        ("first line\nsecond line\n\n- third line", ["first", "second", "third"]),
        ("It cost 3.5 million, about two thirds", ["It"]),
        ("the sum: 42, or so; it is fine", ["the"]),
        ("12. 34", []),
    ],
)
def test_first_tokens_of_sentences(text: str, firsts: list[str]) -> None:
    assert holding(FIRST, text) == firsts


def test_only_the_first_token_of_a_cut_word_begins_the_sentence() -> None:
    found = classes_of(["Un", "roll", " it", ".", " Un", "roll"])
    assert found == [{FIRST}, {OTHER}, {OTHER}, {SIGN}, {FIRST}, {OTHER}]


def test_names_are_capitals_within_a_sentence() -> None:
    text = "Mara met Tom in Oslo on Friday. Anna stayed, and I think I'm late.\nBerlin waited for Jo"
    assert holding(NAME, text) == ["Tom", "Oslo", "Friday", "Jo"]
    assert holding(FIRST, text) == ["Mara", "Anna", "Berlin"]


def test_every_token_of_a_cut_name_is_the_name() -> None:
    assert classes_of(["in", " Dun", "mar", "row"]) == [{FIRST}, {NAME}, {NAME}, {NAME}]


def test_words_in_small_letters_and_single_capitals_are_no_names() -> None:
    assert holding(NAME, "we saw plan B and I left") == []


@pytest.mark.parametrize("said", ['A guest said, "We will stay."', 'They heard it: "We will stay."'])
def test_the_first_word_of_a_quoted_sentence_is_no_name(said: str) -> None:
    assert "We" not in holding(NAME, said)


def test_four_words_in_a_row_are_copied_three_are_not() -> None:
    source = "The old ferry left the harbour at dawn."
    assert holding(COPIED, "Then the ferry left the harbour again", source) == ["ferry", "left", "the", "harbour"]
    assert holding(COPIED, "Then a ferry left the quay", source) == []
    assert holding(COPIED, "harbour the left ferry old The", source) == []


def test_longer_copies_join_and_case_and_signs_do_not_part_them() -> None:
    source = "the old ferry left, the harbour slept"
    text = "So: The old ferry left the Harbour slept on"
    assert holding(COPIED, text, source) == ["The", "old", "ferry", "left", "the", "Harbour", "slept"]


def test_signs_within_a_copied_span_are_copied_those_after_it_are_not() -> None:
    found = classes(answered("12, 34, 56, 78.", source="[12, 34, 56, 78]"))
    assert found == [*[{COPIED}, {COPIED, SIGN}] * 3, {COPIED}, {SIGN}]


def test_a_copy_of_parts_of_words_is_none() -> None:
    assert holding(COPIED, "he old ferry lef", "the old ferry left") == []


def test_less_than_four_words_of_source_or_answer_hold_no_copy() -> None:
    assert holding(COPIED, "one two three", "one two three") == []
    assert holding(COPIED, "one two three four", "") == []


def test_a_token_may_be_of_several_classes() -> None:
    found = classes(answered("Then Tom went to Oslo", source="and Tom went to Oslo"))
    assert found == [{FIRST}, {NAME, COPIED}, {COPIED}, {COPIED}, {NAME, COPIED}]


def test_punctuation_has_no_letter_and_no_digit() -> None:
    assert classes_of(["it", ",", " (", "...", '."\n\n', " it's", " a.", "  "])[1:] == [
        *[{SIGN}] * 4,
        {FIRST},
        {OTHER},
        {OTHER},
    ]


def test_the_token_that_ends_the_turn_has_no_class() -> None:
    assert classes_of(["so", ".", ""]) == [{FIRST}, {SIGN}, set()]
    assert classes_of([""]) == [set()]


def test_tokens_of_the_prompt_have_no_classes_and_begin_no_sentence() -> None:
    run = make_recorded([("the", EVERY), (" 4", EVERY)], before=[("Is", EVERY), (" 2", EVERY), (" =", EVERY)])
    assert classes(run) == [{FIRST}, {OTHER}]


TEXTS = (
    "Mara met Tom in Oslo. It was 12 + 30 = 42\n7 x 6 = 42, said Tom.\n\n- The old ferry left the harbour",
    "12 + 30 = 42 = 40 + 2\n\nSo the sum is 42. \nThe End",
    "Take 12, then 30\n12 + 30 = 42",
)
SOURCE = "Then the old ferry left the harbour of Oslo. It was 12 + 30"


@given(st.lists(st.booleans(), min_size=16, max_size=16))
def test_layers_and_gates_change_no_class(runs: list[bool]) -> None:
    texts = pieces("Tom said 12 = 12, so there.")
    routed: list[Token] = [(text, (runs[2 * place], runs[2 * place + 1])) for place, text in enumerate(texts[:8])]
    routed += [(text, NONE) for text in texts[8:]]
    assert classes(make_recorded(routed, source=SOURCE)) == classes_of(texts, SOURCE)


@given(st.sampled_from(TEXTS), st.data())
def test_other_cuts_keep_the_classes_of_whole_words(text: str, data: st.DataObject) -> None:
    """Words are cut anywhere; white space goes with the word before it, with the one after it, or stands alone. What
    any part of a word is, the word is, "other" aside.
    """
    words = [m.span() for m in re.finditer(r"\w+|[^\w\s]+", text)]
    cuts = {0, len(text)}
    for (_, end), (begin, _) in pairwise(words):
        cuts |= data.draw(st.sampled_from([{end}, {begin}, {end, begin}]))
    cuts |= data.draw(st.sets(st.sampled_from([place for a, b in words for place in range(a + 1, b)] or [0])))
    edges = sorted(cuts)
    tokens = [text[a:b] for a, b in pairwise(edges)]
    found = list(zip(pairwise(edges), classes_of(tokens, SOURCE), strict=True))
    for (a, b), names in zip(words, classes_of_words(text, words), strict=True):
        parts = set().union(*(held for (begin, end), held in found if begin < b and a < end))
        assert parts - {OTHER} == names - {OTHER}, text[a:b]


def classes_of_words(text: str, words: list[tuple[int, int]]) -> list[set[str]]:
    """Classes of the words when each is one token, and each stretch between them another."""
    edges = sorted({0, len(text), *(edge for word in words for edge in word)})
    spans = list(pairwise(edges))
    found = classes_of([text[a:b] for a, b in spans], SOURCE)
    return [names for span, names in zip(spans, found, strict=True) if span in set(words)]
