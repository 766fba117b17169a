"""Streaming: equal to transformers' generate, whole text, stops, tapes, and requests that cannot be carried out."""

from __future__ import annotations

import threading

import pytest
import torch

import flexidepth
from flexidepth.errors import UsageError
from flexidepth.generation import prompt_ids, route_tape, start
from flexidepth.text_stream import TextStream
from tests.conftest import needs_compiler


def run(model, tokenizer, prompt="hello", **settings):
    return list(flexidepth.stream(model, tokenizer, prompt, **{"max_new_tokens": 20, **settings}))


def test_greedy_equals_generate(model, tokenizer):
    steps = run(model, tokenizer, max_new_tokens=40)
    ids = torch.tensor([prompt_ids(tokenizer, "hello", chat=True, context=256)])
    made = model.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]
    assert [step.token_id for step in steps] == made.tolist()


def test_steps_carry_the_routes_of_the_producing_pass(model, tokenizer):
    steps = run(model, tokenizer, include_prompt=True)
    prompt = [step for step in steps if step.is_prompt]
    generated = [step for step in steps if not step.is_prompt]
    ids = torch.tensor([[step.token_id for step in steps]])
    with torch.inference_mode():
        whole = model(ids)
    count = len(prompt)
    assert [step.executed for step in prompt] == [tuple(row) for row in whole.executed[0, :count].tolist()]
    # Token n was produced by the pass whose input was the token before it.
    assert [step.executed for step in generated] == [tuple(row) for row in whole.executed[0, count - 1 : -1].tolist()]
    assert [step.index for step in steps] == list(range(len(steps)))
    logprobs = torch.log_softmax(whole.logits[0], -1)
    for step in steps[1:]:
        assert step.logprob == pytest.approx(logprobs[step.index - 1, step.token_id].item(), abs=1e-3)
        assert step.top[0].logprob >= step.logprob - 1e-6
        assert step.layers_used == 2 + sum(step.executed)
    assert steps[0].logprob is None
    assert steps[0].top == ()


def test_a_recorded_tape_repeats_the_run(model, tokenizer):
    recorded = run(model, tokenizer, include_prompt=True)
    tape = route_tape(recorded)
    replayed = run(model, tokenizer, routes=tape)
    generated = [step for step in recorded if not step.is_prompt]
    assert [(s.token_id, s.executed) for s in replayed] == [(s.token_id, s.executed) for s in generated]
    longer = run(model, tokenizer, routes=tape, max_new_tokens=100)
    assert (len(longer), longer[-1].stop) == (len(generated), "tape_end")
    flipped = [tuple(not run for run in row) for row in tape]
    assert run(model, tokenizer, routes=flipped)[0].executed == flipped[len(tape) - len(generated)]
    with pytest.raises(UsageError, match="2 true or false flags"):
        run(model, tokenizer, routes=[(True,)] * 40)
    with pytest.raises(UsageError, match="the prompt"):
        run(model, tokenizer, routes=tape[:3])
    with pytest.raises(UsageError, match="include_prompt"):
        route_tape(generated)


def test_routes_all_and_none(model, tokenizer):
    assert {step.layers_used for step in run(model, tokenizer, routes="all")} == {4}
    assert {step.layers_used for step in run(model, tokenizer, routes="none")} == {2}


def test_sampling_is_repeatable_and_temperature_one_draws_from_the_model(model, tokenizer):
    def drawn(seed):
        return [step.token_id for step in run(model, tokenizer, temperature=1.0, seed=seed, max_new_tokens=30)]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(4)}) > 1
    cold = [s.token_id for s in run(model, tokenizer, temperature=1e-300)]
    assert cold == [s.token_id for s in run(model, tokenizer)]
    # A nucleus of almost nothing is the likeliest token.
    assert [s.token_id for s in run(model, tokenizer, temperature=1.0, top_p=1e-6)] == [
        s.token_id for s in run(model, tokenizer)
    ]


@pytest.mark.parametrize("text", ["naïve 日本語 🇫🇷👩‍💻 end", " leading\n\n\ttabs\r\n", "a  b   c "])
def test_text_comes_out_whole(tokenizer, text):
    """Byte tokens: characters appear complete, with the token that completes them, and nothing is lost."""
    stream = TextStream(tokenizer, tokenizer("x")["input_ids"])
    ids = tokenizer(text)["input_ids"]
    pieces = [stream.add(token, last=index == len(ids) - 1) for index, token in enumerate(ids)]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)
    assert sum(piece == "" for piece in pieces) == len(ids) - len(text)


def test_a_character_that_is_never_finished_is_shown_as_what_is_there(tokenizer):
    ids = tokenizer("ok 🦭")["input_ids"][:-1]
    stream = TextStream(tokenizer, [])
    made = "".join(stream.add(token, last=index == len(ids) - 1) for index, token in enumerate(ids))
    assert made == tokenizer.decode(ids)
    assert made.startswith("ok \ufffd")


def test_stops_and_says_why(model, tokenizer):
    steps = run(model, tokenizer, max_new_tokens=3)
    assert [step.stop for step in steps] == [None, None, "max_new_tokens"]
    end = steps[1].token_id
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [end, before]
    steps = run(model, tokenizer)
    assert steps[-1].stop == "end_of_turn"
    assert steps[-1].token_id == end
    assert len(steps) <= 2


def test_the_context_limit_ends_a_run(model, tokenizer):
    steps = run(model, tokenizer, "x" * 240, chat=False, max_new_tokens=200)
    assert steps[-1].stop == "context_limit"
    assert len(steps) == 256 - 240 + 1, "the last position's pass produces one more token"


def test_closing_the_iterator_stops_the_work(model, tokenizer):
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    steps = flexidepth.stream(model, tokenizer, "hello", max_new_tokens=200, engine="reference")
    next(steps)
    next(steps)
    steps.close()
    assert len(passes) == 2
    assert next(steps, None) is None


def test_two_runs_at_once_do_not_disturb_each_other(model, tokenizer):
    settings = [{"threshold": 0.2}, {"threshold": 0.8, "temperature": 0.7, "seed": 3}]
    alone = [[s.token_id for s in run(model, tokenizer, max_new_tokens=60, **s)] for s in settings]
    found: dict[int, list[int]] = {}

    def work(index):
        found[index] = [s.token_id for s in run(model, tokenizer, max_new_tokens=60, **settings[index])]

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == alone


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"prompt": "half \ud83d emoji"}, "not valid text at character 6"),
        ({"prompt": "x" * 300}, "307 tokens, the model reads 255"),
        ({"max_new_tokens": 0}, "max_new_tokens must lie between 1 and 256"),
        ({"max_new_tokens": 10**9}, "max_new_tokens must lie between 1 and 256"),
        ({"temperature": float("nan")}, "temperature must lie"),
        ({"temperature": -1.0}, "temperature must lie"),
        ({"top_p": 0.0}, "top_p must lie"),
        ({"threshold": 1.01}, "threshold must lie"),
        ({"threshold": float("nan")}, "threshold must lie"),
        ({"seed": -1}, "seed must lie"),
        ({"routes": "most"}, "learned, all, none"),
        ({"engine": "warp"}, "engine 'warp' is unknown"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_refused_before_any_work(model, tokenizer, settings, words):
    model.forward = None  # any work would fail differently
    with pytest.raises(UsageError, match=words):
        start(model, tokenizer, **{"prompt": "hello", **settings})


def test_header_names_the_run(model, tokenizer):
    trace = flexidepth.generate(
        model, tokenizer, "hello", max_new_tokens=2, threshold=0.25, seed=4, engine="reference"
    )
    header = trace.header
    assert (header.threshold, header.seed, header.prompt, header.engine) == (0.25, 4, "hello", "reference")
    assert header.routed_layers == (2, 3)
    assert trace.summary()["tokens"] == 2


@needs_compiler
def test_a_mask_runs_the_same_layers_for_every_token(model, tokenizer):
    for engine in ("cpu", "reference"):
        steps = run(model, tokenizer, routes=[True, False], include_prompt=True, engine=engine)
        assert {step.executed for step in steps} == {(True, False)}
    with pytest.raises(UsageError, match="2 true or false flags"):
        run(model, tokenizer, routes=[True, False, True])


@needs_compiler
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 3}, {"routes": "none"}])
def test_every_engine_yields_the_same_steps(model, tokenizer, settings):
    found = [run(model, tokenizer, include_prompt=True, engine=name, **settings) for name in ("cpu", "reference")]
    for one, other in zip(*found, strict=True):
        assert (one.token_id, one.text, one.executed, one.stop) == (
            other.token_id,
            other.text,
            other.executed,
            other.stop,
        )
        assert one.gates == pytest.approx(other.gates, abs=1e-4)
        assert (one.logprob or 0.0) == pytest.approx(other.logprob or 0.0, abs=1e-3)
