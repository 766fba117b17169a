"""The tasks ask what the paper asked, of inputs in the paper's ranges."""

from __future__ import annotations

import json
import re

import pytest

from analysis.tasks import PASSAGES, QUESTIONS, TASKS, number_lists, samples, task_named

INSTRUCTIONS = {
    "copy": "Please copy this paragraph: ",
    "summarize": "Please summarize this paragraph into a single sentence: ",
    "continue": "Please continue writing this paragraph: ",
    "repeat": "Please repeat the following list for 5 times: ",
    "add": "Please calculate the sum of numbers in the following list: ",
    "multiply": "Please calculate the product of numbers in the following list: ",
}


def test_instructions_are_the_papers() -> None:
    assert {task.name: task.instruction for task in TASKS if task.name != "chat"} == INSTRUCTIONS
    assert task_named("copy").prompt(PASSAGES[0]) == INSTRUCTIONS["copy"] + PASSAGES[0].text
    assert task_named("chat").prompt(QUESTIONS[0]) == QUESTIONS[0].text


def test_passages_are_plain_paragraphs() -> None:
    assert 5 <= len(PASSAGES) <= 8
    for passage in PASSAGES:
        assert 60 <= len(passage.text.split()) <= 140
        assert re.fullmatch(r"[A-Za-z0-9 ,.:;'-]+", passage.text)
        assert "  " not in passage.text
    assert len({passage.title for passage in PASSAGES}) == len(PASSAGES)


@pytest.mark.parametrize("seed", range(5))
def test_number_lists_are_in_range_and_repeatable(seed: int) -> None:
    lists = number_lists(count=40, seed=seed)
    assert lists == number_lists(count=40, seed=seed)
    assert lists != number_lists(count=40, seed=seed + 1)
    for sample in lists:
        numbers = json.loads(sample.text)
        assert 5 <= len(numbers) <= 10
        assert all(10 <= number <= 99 for number in numbers)


def test_every_task_offers_inputs_with_titles_of_their_own() -> None:
    for task in TASKS:
        offered = samples(task)
        assert len(offered) >= 5
        assert len({sample.title for sample in offered}) == len(offered)
