"""The tasks ask what the paper asked, of inputs in the paper's ranges."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from analysis.tasks import PASSAGES_FILE, QUESTIONS, TASKS, number_lists, passages, samples, task_named

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
    assert task_named("copy").prompt(passages()[0]) == INSTRUCTIONS["copy"] + passages()[0].text
    assert task_named("chat").prompt(QUESTIONS[0]) == QUESTIONS[0].text


def test_passages_are_plain_paragraphs() -> None:
    assert len(passages()) == 100
    for passage in passages():
        assert 60 <= len(passage.text.split()) <= 140
        assert re.fullmatch(r"""[A-Za-z0-9 ,.:;?!'"%&/()-]+""", passage.text)
        assert "  " not in passage.text
    assert len({passage.title for passage in passages()}) == len({passage.text for passage in passages()}) == 100


def test_passages_are_those_that_were_fixed_before_training() -> None:
    digest = hashlib.sha256(PASSAGES_FILE.read_bytes()).hexdigest()
    assert digest == "45f6aca8aca2f1d63bcc6ca5ebcd52bd7a72748d05d463fb76a749b50b86136a"


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
