"""Links: what they hold comes back, what they cannot hold is said."""

from __future__ import annotations

import pytest

from analysis.views.share import LONGEST_PROMPT, NAMES, RANGES, restored

MODELS = {"a/b": None, "large": "needs 18 GB"}


def test_a_whole_link_comes_back():
    query = {"task": "add", "prompt": "1 + 1?\nß", "tokens": "64", "temperature": "0.35", "top_p": "0.9"}
    query |= {"seed": "12", "threshold": "0.4", "chat": "0", "model": "a/b"}
    assert set(query) == set(NAMES)
    values, wrong = restored(query, MODELS)
    assert wrong == []
    assert values == {
        "task": "add",
        "prompt": "1 + 1?\nß",
        "tokens": 64,
        "temperature": 0.35,
        "top_p": 0.9,
        "seed": 12,
        "threshold": 0.4,
        "chat": False,
        "model": "a/b",
    }
    assert isinstance(values["seed"], int)


def test_other_parameters_and_no_parameters_change_nothing():
    assert restored({}, MODELS) == ({}, [])
    assert restored({"__theme": "dark", "utm": "x"}, MODELS) == ({}, [])


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-1", "1e99", "0x10"])
def test_a_number_that_is_none_is_said_and_the_rest_is_used(name, text):
    values, wrong = restored({name: text, "task": "copy"}, MODELS)
    assert values == {"task": "copy"}
    assert len(wrong) == 1
    assert name in wrong[0]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"task": "dance"}, "task is none"),
        ({"prompt": "x" * (LONGEST_PROMPT + 1)}, "prompt is longer"),
        ({"chat": "yes"}, "chat is neither"),
        ({"model": "c"}, "model is none of this page's"),
        ({"model": "large"}, "model cannot run here: it needs 18 GB"),
        ({"tokens": "1.5"}, "tokens is no number from 1 to 1024"),
    ],
)
def test_what_a_link_cannot_hold_is_said(query, words):
    values, (wrong,) = restored(query, MODELS)
    assert values == {}
    assert words in wrong
