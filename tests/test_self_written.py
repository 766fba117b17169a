"""Conversations that the base model writes: repeatable, its own words, and text that training reads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

import flexidepth
from flexidepth import checkpoint, cli, self_written
from flexidepth.cli import main
from flexidepth.data import conversations
from flexidepth.errors import UsageError
from flexidepth.generation import prompt_ids
from flexidepth.self_written import answered, imagined, line_of, read_messages, read_passages
from flexidepth.trace import Trace
from tests.conftest import OWN, byte_tokenizer
from tests.test_trace import HEADER, step

MESSAGES = ["hello there", "what is a much longer question?", "naïve 日本語", "x", "and a fifth"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, base_dir):
    """A checkpoint directory on the tiny base."""
    directory = tmp_path_factory.mktemp("tiny") / "ours"
    checkpoint.save(checkpoint.from_base(base_dir, OWN), directory, base=str(base_dir))
    return str(directory)


@pytest.fixture
def brief(model):
    """A model whose answers end after a few dozen tokens."""
    model.generation_config.eos_token_id = list(range(1, 256, 25))
    return model


def test_answers_are_the_base_models(base_dir, tokenizer, monkeypatch):
    monkeypatch.setattr(self_written, "_ANSWER_TOKENS", 40)
    model = checkpoint.from_base(base_dir, OWN).eval()
    base = LlamaForCausalLM.from_pretrained(base_dir).eval()
    for message, found in zip(MESSAGES, answered(model, tokenizer, MESSAGES, seed=0, temperature=0.0), strict=True):
        ids = torch.tensor([prompt_ids(tokenizer, message, chat=True, context=256)])
        made = base.generate(ids, max_new_tokens=40, do_sample=False, attention_mask=torch.ones_like(ids))
        answer = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        assert found == [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]


def test_each_message_has_a_seed_of_its_own_and_batches_change_nothing(brief, tokenizer, monkeypatch):
    monkeypatch.setattr(self_written, "_BATCH", 2)
    reports: list[int] = []
    found = list(answered(brief, tokenizer, MESSAGES, seed=10, report=reports.append))
    assert reports == [2, 2, 1]
    for number, (message, (asked, answer)) in enumerate(zip(MESSAGES, found, strict=True)):
        settings = {"max_new_tokens": 256, "temperature": 0.7, "top_p": 0.95, "seed": 10 + number, "routes": "all"}
        assert asked == {"role": "user", "content": message}
        assert answer["content"] == flexidepth.generate(brief, tokenizer, message, **settings).text


def test_the_same_seed_writes_the_same_conversations(brief, tokenizer):
    first = list(answered(brief, tokenizer, MESSAGES, seed=1))
    assert first == list(answered(brief, tokenizer, MESSAGES, seed=1))
    assert first != list(answered(brief, tokenizer, MESSAGES, seed=2))
    assert list(answered(brief, tokenizer, [], seed=1)) == []


def test_the_routed_model_may_answer_too(brief, tokenizer):
    ((_, answer),) = answered(brief, tokenizer, ["hello there"], seed=10, routes="learned")
    settings = {"max_new_tokens": 256, "temperature": 0.7, "top_p": 0.95, "seed": 10}
    assert answer["content"] == flexidepth.generate(brief, tokenizer, "hello there", **settings).text
    assert [answer] != [turn[1] for turn in answered(brief, tokenizer, ["hello there"], seed=10)]


def test_answers_are_cut_at_256_tokens(make_model, tokenizer):
    model = make_model(max_position_embeddings=512, eos_token_id=None)
    model.generation_config.eos_token_id = None
    endless = byte_tokenizer()
    endless.eos_token = None
    ((_, answer),) = answered(model, endless, ["hi"], seed=0, temperature=0.0)
    settings = {"max_new_tokens": 256, "routes": "all"}
    trace = flexidepth.generate(model, endless, "hi", **settings)
    assert (len(trace.steps), trace.steps[-1].stop) == (256, "max_new_tokens")
    assert answer["content"] == trace.text


def test_imagined_messages_repeat_with_their_seed(brief, tokenizer, monkeypatch):
    monkeypatch.setattr(self_written, "_BATCH", 8)
    made = list(imagined(brief, tokenizer, 2, seed=0))
    assert len(made) == 2
    assert made == list(imagined(brief, tokenizer, 2, seed=0))
    assert made[:1] == list(imagined(brief, tokenizer, 1, seed=0))
    assert made != list(imagined(brief, tokenizer, 2, seed=1000))
    for message in made:
        assert message == message.strip()
        assert len(message.split()) >= 3
    assert list(imagined(brief, tokenizer, 0, seed=0)) == []


def test_imagined_messages_follow_the_templates_opening_and_poor_ones_are_drawn_again(model, tokenizer, monkeypatch):
    calls = []

    def written(model, tokenizer, prompts, **settings):
        calls.append((set(prompts), settings))
        texts = [(" one two three\n", "end_of_turn"), ("one two", "end_of_turn"), ("cut off in", "max_new_tokens")]
        texts += [("", "end_of_turn")] * (len(prompts) - len(texts))
        return [
            Trace(replace(HEADER, seed=seed), (step(0, (True, True), text=f"{text}", stop=stop),))
            for (text, stop), seed in zip(texts, settings["seed"], strict=True)
        ]

    monkeypatch.setattr(self_written, "generate_batch", written)
    assert list(imagined(model, tokenizer, 3, seed=4)) == ["one two three"] * 3
    assert len(calls) == 3
    for prompts, settings in calls:
        assert prompts == {"<s>u:"}
        assert (settings["chat"], settings["routes"], settings["max_new_tokens"]) == (False, "all", 64)
    seeds = [seed for _, settings in calls for seed in settings["seed"]]
    assert seeds == list(range(4, 4 + len(seeds))), "no draw is made twice"


def test_a_model_without_a_chat_template_imagines_nothing(model):
    plain = byte_tokenizer()
    plain.chat_template = None
    with pytest.raises(UsageError, match="chat template"):
        list(imagined(model, plain, 1, seed=0))
    with pytest.raises(UsageError, match="chat template"):
        list(answered(model, plain, ["hi"], seed=0))


def test_lines_are_read_by_training(brief, tokenizer, tmp_path):
    made = list(answered(brief, tokenizer, [*MESSAGES, "two\nlines\u2028here"], seed=3))
    assert all(answer["content"].strip() for _, answer in made)
    path = tmp_path / "own.jsonl"
    path.write_text("".join(map(line_of, made)))
    assert list(conversations(str(path))) == made


def test_messages_are_the_lines_that_hold_something(tmp_path):
    path = tmp_path / "messages.txt"
    path.write_text("first one\n\n   \n  second, grüße 日本  \nlast", encoding="utf-8")
    assert read_messages(path) == ["first one", "second, grüße 日本", "last"]


@pytest.mark.parametrize("content", [None, b"", b" \n\t\n", "grüße".encode("latin-1")])
def test_a_file_without_messages_is_refused(tmp_path, content):
    path = tmp_path / "messages.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="one message a line") as refused:
        read_messages(path)
    assert str(path) in str(refused.value)


def test_write_answers_the_messages_of_a_file_and_keeps_what_is_there(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(self_written, "_ANSWER_TOKENS", 20)
    (tmp_path / "messages.txt").write_text("\n".join(MESSAGES[:2]))
    out = tmp_path / "own.jsonl"
    command = ["write", "--out", str(out), "--messages", str(tmp_path / "messages.txt"), "--model", tiny]
    assert main([*command, "--seed", "1"]) == 0
    first = out.read_text()
    assert main([*command, "--seed", "2"]) == 0
    assert out.read_text().startswith(first)
    found = list(conversations(str(out)))
    assert [asked["content"] for asked, _ in found] == MESSAGES[:2] * 2
    assert found[:2] != found[2:]
    assert capsys.readouterr().out.split() == [str(out)] * 2


def test_write_makes_up_messages_too(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(self_written, "_ANSWER_TOKENS", 20)
    for name in ("a.jsonl", "b.jsonl"):
        assert main(["write", "--out", str(tmp_path / name), "--count", "2", "--model", tiny]) == 0
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    made = [json.loads(line)["messages"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [[turn["role"] for turn in messages] for messages in made] == [["user", "assistant"]] * 2
    assert all(len(messages[0]["content"].split()) >= 3 for messages in made)


def test_passages_are_the_paragraphs_of_a_file(tmp_path):
    path = tmp_path / "own.jsonl"
    with pytest.raises(UsageError, match="holds no paragraph"):
        read_passages(path)
    path.write_text(line_of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "brief"}]))
    with pytest.raises(UsageError, match="holds no paragraph"):
        read_passages(path)
    passage = "a calm sea. " * 20
    path.write_text(line_of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"a\n\n{passage}"}]))
    assert read_passages(path) == [passage]


def test_write_answers_the_six_tasks(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(self_written, "_ANSWER_TOKENS", 20)
    monkeypatch.setattr(self_written, "read_passages", lambda path: ["A calm sea."])
    out = tmp_path / "own.jsonl"
    assert main(["write", "--out", str(out), "--tasks", "12", "--model", tiny, "--routes", "learned"]) == 0
    prompts = [item[0]["content"] for item in conversations(str(out))]
    assert len(prompts) == 12
    assert any(prompt.endswith("A calm sea.") for prompt in prompts)
    assert any("list" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "0"], "--tasks must be at least 1, not 0"),
        (["--count", "0"], "--count must be at least 1, not 0"),
        (["--count", "-5"], "--count must be at least 1, not -5"),
        (["--count", "many"], "--count"),
        (["--messages", "/no/such/file"], "no messages at /no/such/file"),
        (["--count", "1", "--messages", "x"], "--messages"),
        ([], "--messages --count --tasks"),
    ],
)
def test_a_bad_request_to_write_is_exit_code_2_and_one_line_before_any_work(
    tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.setattr(cli, "load_model", None)  # any work would fail differently
    out = tmp_path / "own.jsonl"
    assert main(["write", "--out", str(out), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert not out.exists()


def test_write_to_a_place_that_cannot_be_written_is_refused_in_one_line(tiny, tmp_path, capsys):
    (tmp_path / "messages.txt").write_text("hi")
    command = ["write", "--out", str(tmp_path), "--messages", str(tmp_path / "messages.txt"), "--model", tiny]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert str(tmp_path) in captured.err
