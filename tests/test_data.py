"""Training text: what is read, what is dropped, what is held out, and that the exercises are right."""

from __future__ import annotations

import json
import re
from itertools import islice

import numpy as np
import pytest

from flexidepth.data import (
    conversations,
    exercises,
    is_held_out,
    mixed,
    mostly_ascii,
    packed_rows,
    paragraphs,
    task_prompts,
    token_ids,
)
from flexidepth.errors import UsageError


def turns(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


@pytest.fixture
def cut_off(tmp_path):
    """A JSON array of three hundred records that breaks off in the middle of the last one, as the real file does."""
    records = [
        {"id": i, "conversations": turns(f"question {i} é " + '{["' * 50, f"answer {i}\n" * 20)} for i in range(300)
    ]
    text = json.dumps(records, indent=1)
    path = tmp_path / "cut.json"
    path.write_text(text[: text.rindex('"answer 299') + 20], encoding="utf-8")
    return path


def test_a_file_cut_off_at_its_end_gives_every_whole_record(cut_off, monkeypatch):
    monkeypatch.setattr("flexidepth.data._READ_CHARS", 997)  # records span many reads
    read = list(conversations(str(cut_off)))
    assert len(read) == 299
    assert read[298][1] == {"role": "assistant", "content": "answer 298\n" * 20}


def test_json_lines_and_their_mistakes(tmp_path):
    path = tmp_path / "data.jsonl"
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    lines = [{"messages": messages}, {"text": "plain"}, {"conversations": turns("a", "b")}, {"other": 1}]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert [len(conversation) for conversation in conversations(str(path))] == [2, 1, 2]
    path.write_text('{"text": "x"}\n{"text": ')
    with pytest.raises(UsageError, match="line 2 is not JSON"):
        list(conversations(str(path)))
    with pytest.raises(UsageError, match="no training data"):
        list(conversations(str(tmp_path / "none.jsonl")))


def test_several_sources_are_read_in_turn(tmp_path):
    for name, texts in (("a", ["a1", "a2", "a3"]), ("b", ["b1"]), ("c", ["c1", "c2"])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    source = ", ".join(str(tmp_path / f"{name}.jsonl") for name in "abc")
    read = [conversation[0]["content"] for conversation in conversations(source)]
    assert read == ["a1", "b1", "c1", "a2", "c2", "a3"]
    with pytest.raises(UsageError, match=r"no training data at .*none\.jsonl:"):
        list(conversations(f"{tmp_path}/a.jsonl,{tmp_path}/none.jsonl"))


def test_a_directory_is_read_by_the_datasets_loader(tmp_path):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"messages": messages, "id": i}) for i in range(5)))
    assert list(conversations(str(tmp_path))) == [messages] * 5


def test_a_dataset_that_cannot_be_read_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="'nobody/nothing' cannot be read"):
        list(conversations("nobody/nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        list(conversations(str(tmp_path / "empty")))


def test_half_conversations_and_empty_turns_are_left_out(tmp_path):
    path = tmp_path / "data.jsonl"
    records = [
        turns("q", ""),
        [{"from": "gpt", "value": "tail of an answer"}, *turns("q", "a")],
        turns("only a question"),
    ]
    path.write_text("\n".join(json.dumps({"conversations": record}) for record in records))
    read = list(conversations(str(path)))
    assert [[message["content"] for message in conversation] for conversation in read] == [["q", "a"]]


def test_held_out_is_by_text_alone_and_apart_from_training(cut_off):
    read = list(conversations(str(cut_off)))
    held = [conversation for conversation in read if is_held_out(conversation)]
    assert 0 < len(held) < 30
    trained = {json.dumps(c) for c in mixed(str(cut_off), seed=1, exercise_share=0.5)}
    assert not trained & {json.dumps(c) for c in held}
    assert not mostly_ascii([{"role": "user", "content": "日本語 only"}])


def test_task_prompts_are_of_all_six_tasks_and_repeat_with_their_seed():
    made = list(islice(task_prompts(5, ["One passage.", "Another."]), 200))
    assert made == list(islice(task_prompts(5, ["One passage.", "Another."]), 200))
    assert made != list(islice(task_prompts(6, ["One passage.", "Another."]), 200))
    openings = {re.split(r": |for \d", prompt)[0] for prompt in made}
    assert {opening.split()[1] for opening in openings} == {"copy", "summarize", "continue", "repeat", "calculate"}
    assert len(openings) == 6
    assert {prompt.partition(": ")[2] for prompt in made if "paragraph" in prompt} == {"One passage.", "Another."}
    assert all(2 <= len(json.loads(prompt.partition(": ")[2])) <= 12 for prompt in made if "list" in prompt)


def test_paragraphs_are_of_a_news_items_length():
    texts = ["short", "x" * 300, "y" * 1000]
    turns = [{"role": "user", "content": "\n\n".join(texts)}, {"role": "assistant", "content": "z" * 201}]
    assert list(paragraphs(turns)) == ["x" * 300, "z" * 201]


def test_exercises_are_right():
    kinds = set()
    for prompt, answer in (
        (c[0]["content"], c[1]["content"]) for c in islice(exercises(3, lambda: "Some text."), 400)
    ):
        numbers = [int(n) for n in re.findall(r"\d+", prompt.partition("[")[2])]
        if "sum" in prompt:
            kinds.add("add")
            assert answer.endswith(f"The sum is {sum(numbers)}.")
        elif "product" in prompt:
            kinds.add("multiply")
            assert answer.endswith(f"The product is {np.prod(numbers, dtype=object)}.")
        elif "repeat" in prompt:
            kinds.add("repeat")
            assert answer.split("\n") == [str(numbers)] * int(re.search(r"for (\d+) times", prompt)[1])
        else:
            kinds.add("copy")
            assert answer == "Some text."
        for left, sign, right, result in re.findall(r"(\d+) ([+*]) (\d+) = (\d+)", answer):
            assert int(result) == (int(left) + int(right) if sign == "+" else int(left) * int(right))
    assert kinds == {"copy", "repeat", "add", "multiply"}


def test_rows_hold_the_conversations_end_to_end(tokenizer):
    items = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}] for i in range(40)]
    rows = packed_rows(iter(items), tokenizer, row_length=16, rows=8)
    assert rows.shape == (8, 16)
    expected = [token for item in items for token in token_ids(item, tokenizer)]
    assert rows.flatten().tolist() == expected[:128]
    with pytest.raises(UsageError, match="give more data or fewer steps"):
        packed_rows(iter(items[:2]), tokenizer, row_length=16, rows=8)


def test_the_same_seed_mixes_the_same(cut_off):
    first = list(islice(mixed(str(cut_off), seed=5, exercise_share=0.4), 60))
    assert first == list(islice(mixed(str(cut_off), seed=5, exercise_share=0.4), 60))
    assert first != list(islice(mixed(str(cut_off), seed=6, exercise_share=0.4), 60))
