"""Prompts: every input of every task once, a dataset's passages, files of one's own."""

from __future__ import annotations

import json

import pytest

from analysis.prompts import check_suite, dataset_passages, prompts, read_prompts, tasks_of
from analysis.tasks import passages, task_named
from flexidepth.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("chat", 5), "language, math, all, or a file of prompts, not 'chat'"),
        (("", 5), "language, math, all"),
        (("all", 0), "n must lie between 1 and 100"),
        (("math", 101), "n must lie between 1 and 100"),
        ((__file__, 5, "EdinburghNLP/xsum"), "a file has its own prompts"),
    ],
)
def test_bad_suites_are_refused_in_one_line(settings, words):
    with pytest.raises(UsageError, match=words) as refused:
        check_suite(*settings)
    assert "\n" not in str(refused.value)


def test_more_inputs_than_our_passages_need_a_dataset_or_a_file():
    check_suite("all", 500, "EdinburghNLP/xsum")
    check_suite(__file__, 500)


@pytest.mark.parametrize(("suite", "kinds"), [("language", 3), ("math", 3), ("all", 6)])
@pytest.mark.parametrize("n", [1, 7, 100])
def test_an_input_has_the_same_number_in_each_task_of_its_kind(suite, kinds, n):
    asked = prompts(suite, n)
    assert len(asked) == len({(prompt.task, prompt.number) for prompt in asked}) == kinds * n
    named: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for prompt in asked:
        task = task_named(prompt.task)
        assert suite in ("all", task.kind)
        assert prompt.text == task.instruction + prompt.input
        named.setdefault((task.kind, prompt.number), set()).add((prompt.title, prompt.input))
    assert {number for _, number in named} == set(range(n))
    assert all(len(inputs) == 1 for inputs in named.values())


def test_language_inputs_are_the_first_passages_and_prompts_repeat():
    assert [prompt.input for prompt in prompts("language", 4)[:4]] == [passage.text for passage in passages()[:4]]
    assert prompts("all", 5) == prompts("language", 5) + prompts("math", 5)
    assert "chat" not in {task.name for task in tasks_of("all")}


@pytest.fixture
def dataset(tmp_path):
    directory = tmp_path / "xsum"
    directory.mkdir()
    for split in ("train", "test"):
        records = [{"document": f"{split} {number}\nsecond line", "summary": "s"} for number in range(4)]
        (directory / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))
    return str(directory)


def test_passages_of_a_dataset_are_those_of_its_test_split(dataset):
    asked = prompts("language", 3, dataset)
    assert [prompt.input for prompt in asked[:3]] == [f"test {number} second line" for number in range(3)]
    assert asked[0].text == "Please copy this paragraph: test 0 second line"
    assert [prompt.task for prompt in asked] == [name for name in ("copy", "summarize", "continue") for _ in range(3)]
    assert prompts("math", 3, dataset) == prompts("math", 3), "lists need no passages"


def test_too_few_passages_and_no_dataset_are_said_in_one_line(dataset, monkeypatch):
    with pytest.raises(UsageError, match="gives 4 passages of 9: ask for fewer"):
        dataset_passages(dataset, 9)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="'nobody/nothing' cannot be read"):
        dataset_passages("nobody/nothing", 1)


def test_a_file_of_prompts_with_and_without_tasks(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(' plain words \n\n{"prompt": "Two\\nlines", "task": "mine"}\n{"prompt": "last"}\n')
    found = read_prompts(path)
    assert [(prompt.task, prompt.number, prompt.text, prompt.title) for prompt in found] == [
        ("prompts", 0, "plain words", "plain words"),
        ("mine", 0, "Two\nlines", "Two lines"),
        ("prompts", 1, "last", "last"),
    ]
    assert prompts(str(path), 1) == found[:2], "n counts the prompts of each task"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no prompt"),
        (b"\n  \n", "holds no prompt"),
        (b"fine\n{broken", "line 2 starts like JSON and is none"),
        (b'{"text": "x"}', "line 1 needs"),
        (b'{"prompt": " "}', "line 1 needs"),
        (b'{"prompt": "x", "task": 3}', "line 1 needs"),
        ("grüße".encode("latin-1"), "UTF-8"),
    ],
)
def test_what_is_no_file_of_prompts_is_named_by_its_line(tmp_path, content, words):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as refused:
        read_prompts(path)
    assert str(path) in str(refused.value)
