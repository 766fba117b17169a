"""A comparison's prompts, and the lines it is told in."""

from __future__ import annotations

import json

import pytest

from analysis.comparison import ended_line, opening_line, panels, planned, run_line, table_line, trace_lines
from analysis.tasks import number_lists, passages
from flexidepth.errors import UsageError
from flexidepth.trace import Trace
from tests.recorded_runs import EVERY, NONE, make_recorded
from tests.ui.sample_traces import make_trace


def test_every_input_of_a_task_comes_before_the_next_task():
    prompts = planned(["copy", "add"], 2)
    assert [(prompt.task, prompt.number) for prompt in prompts] == [("copy", 0), ("copy", 1), ("add", 0), ("add", 1)]
    assert [prompt.input for prompt in prompts[:2]] == [passage.text for passage in passages()[:2]]
    assert prompts[2].input == number_lists()[0].text
    assert panels(prompts) == ["copy", "add"]


def test_own_text_and_own_list_take_the_place_of_ours():
    prompts = planned(["copy", "repeat"], 3, passage=" My\n text. ", numbers="[12, 7,-3]")
    assert [(prompt.task, prompt.input) for prompt in prompts] == [("copy", "My text."), ("repeat", "[12, 7, -3]")]
    assert prompts[0].text == "Please copy this paragraph: My text."
    mixed = planned(["copy", "repeat"], 2, numbers="1 2")
    assert [prompt.task for prompt in mixed] == ["copy", "copy", "repeat"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], 1), "no task is chosen"),
        ((["copy"], 0), "between 1 and 5"),
        ((["copy"], 6), "between 1 and 5"),
    ],
)
def test_bad_choices_are_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        planned(*arguments)


@pytest.mark.parametrize("numbers", ["a, b", "1, x", "1.5, 2", "7", ",".join("1" * 21), "1,,2", "__import__('os')"])
def test_a_list_that_is_none_is_refused(numbers):
    with pytest.raises(UsageError, match="list must"):
        planned(["add"], 1, numbers=numbers)


@pytest.mark.parametrize("numbers", ["[1, 2", "1 2", " 1;2 ", "[1,2]"])
def test_brackets_and_separators_are_free(numbers):
    assert planned(["add"], 1, numbers=numbers)[0].input == "[1, 2]"


def test_lines_name_panels_and_runs():
    prompts = planned(["repeat", "copy"], 1)
    assert json.loads(opening_line(prompts)) == {
        "compare": {"panels": [{"label": "Repeat"}, {"label": "Copy"}], "differ": False}
    }
    assert json.loads(run_line(1, "a title")) == {"run": {"panel": 1, "title": "a title"}}
    assert json.loads(ended_line(stopped=True)) == {"ended": {"stopped": True}}


def test_a_growing_trace_is_told_once_without_its_likely_tokens():
    whole = make_trace()
    told, sent = [], None
    for length in (0, 0, 3, 3, len(whole.steps)):
        now = Trace(whole.header, whole.steps[:length])
        told += [json.loads(line) for line in trace_lines(now, sent)]
        sent = length
    assert "trace" in told[0]
    assert [step["token_id"] for step in told[1:]] == [step.token_id for step in whole.steps]
    assert all(step["top"] == [] for step in told[1:])


def test_the_table_has_means_over_tokens_and_intervals_over_inputs():
    runs = [
        make_recorded([("a", EVERY), ("b", NONE)], task="copy", number=0),
        make_recorded([("a", EVERY)], task="copy", number=1),
        make_recorded([("a", NONE)], task="add", number=0),
    ]
    copy, add = json.loads(table_line(runs))["table"]
    assert (copy["label"], copy["inputs"], copy["tokens"]) == ("Copy", 2, 3)
    assert copy["mean"] == pytest.approx(10 / 3)
    assert (copy["low"], copy["high"]) == (3.0, 4.0)
    assert copy["sd"] == pytest.approx((8 / 9) ** 0.5)
    assert (add["inputs"], add["mean"], add["sd"]) == (1, 2.0, 0.0)
