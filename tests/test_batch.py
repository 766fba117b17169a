"""Several prompts at once: each answer is the one its prompt gets alone, whatever runs beside it."""

from __future__ import annotations

import pytest
import torch

import flexidepth
from flexidepth.batch import generate_batch
from flexidepth.engines.batched import BatchedReference
from flexidepth.errors import UsageError

PROMPTS = ("hi", "a longer question, with commas in it", "x" * 60, "naïve 日本語", "two words")
SEEDS = (3, 1, 4, 1, 5)


def alone(model, tokenizer, prompts=PROMPTS, seeds=SEEDS, **settings):
    return [
        flexidepth.generate(model, tokenizer, prompt, seed=seed, **{"max_new_tokens": 12, **settings})
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def together(model, tokenizer, prompts=PROMPTS, seeds=SEEDS, **settings):
    return generate_batch(model, tokenizer, prompts, seed=seeds, **{"max_new_tokens": 12, **settings})


def tokens(trace):
    return [step.token_id for step in trace.steps]


def assert_same_run(found, wanted):
    for value in ("index", "token_id", "text", "is_prompt", "executed", "layers_used", "stop"):
        assert [getattr(step, value) for step in found.steps] == [getattr(step, value) for step in wanted.steps]
    for step, other in zip(found.steps, wanted.steps, strict=True):
        assert step.gates == pytest.approx(other.gates, abs=1e-5)
        assert (step.logprob, step.entropy) == pytest.approx((other.logprob, other.entropy), abs=1e-4)
        assert [candidate.token_id for candidate in step.top] == [candidate.token_id for candidate in other.top]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9}])
@pytest.mark.parametrize("routes", ["learned", "all", "none"])
def test_a_batch_equals_single_runs(model, tokenizer, routes, sampling):
    wanted = alone(model, tokenizer, routes=routes, **sampling)
    found = together(model, tokenizer, routes=routes, **sampling)
    for trace, other in zip(found, wanted, strict=True):
        assert_same_run(trace, other)
    if routes == "learned":
        decided = {run for trace in wanted for step in trace.steps for run in step.executed}
        assert decided == {False, True}, "a model that always decides alike would prove little"


def test_the_threshold_of_the_request_decides(model, tokenizer):
    for threshold in (0.2, 0.8):
        wanted = alone(model, tokenizer, threshold=threshold)
        for trace, other in zip(together(model, tokenizer, threshold=threshold), wanted, strict=True):
            assert_same_run(trace, other)
            assert trace.header.threshold == threshold


def test_one_pass_a_token_serves_all_rows(model, tokenizer):
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    together(model, tokenizer, max_new_tokens=7)
    assert len(passes) == 7


def test_a_row_that_ends_early_does_not_disturb_the_others(model, tokenizer):
    whole = alone(model, tokenizer, temperature=1.0)
    early = 1
    others = {token for row, trace in enumerate(whole) for token in tokens(trace) if row != early}
    place, end = next((place, token) for place, token in enumerate(tokens(whole[early])) if token not in others)
    assert place < 6
    model.generation_config.eos_token_id = [end, 257]
    found = together(model, tokenizer, temperature=1.0)
    assert tokens(found[early]) == tokens(whole[early])[: place + 1]
    assert found[early].steps[-1].stop == "end_of_turn"
    for row in set(range(len(PROMPTS))) - {early}:
        assert_same_run(found[row], whole[row])


def test_rows_may_end_one_after_the_other(model, tokenizer):
    model.generation_config.eos_token_id = list(range(0, 256, 20))
    prompts, seeds = [f"{'ab ' * row}question" for row in range(10)], list(range(10))
    settings = {"temperature": 1.0, "max_new_tokens": 25}
    wanted = alone(model, tokenizer, prompts, seeds, **settings)
    assert len({len(trace.steps) for trace in wanted}) >= 5
    assert {trace.steps[-1].stop for trace in wanted} == {"end_of_turn", "max_new_tokens"}
    for trace, other in zip(together(model, tokenizer, prompts, seeds, **settings), wanted, strict=True):
        assert_same_run(trace, other)


def test_each_row_has_its_own_context_limit(model, tokenizer):
    prompts, seeds = ["x" * 240, "hi", "y" * 250], [0, 0, 0]
    settings = {"chat": False, "max_new_tokens": 30}
    found = together(model, tokenizer, prompts, seeds, **settings)
    assert [(len(trace.steps), trace.steps[-1].stop) for trace in found] == [
        (17, "context_limit"),
        (30, "max_new_tokens"),
        (7, "context_limit"),
    ]
    for trace, other in zip(found, alone(model, tokenizer, prompts, seeds, **settings), strict=True):
        assert_same_run(trace, other)


@pytest.mark.parametrize("company", [(), ("x" * 200,), ("a", "b" * 90, "c d e"), ("hi", "hi")])
def test_a_result_does_not_depend_on_the_company(model, tokenizer, company):
    wanted = together(model, tokenizer, ["hi", "some longer prompt"], [7, 8], temperature=1.0)
    seeds = [7, *range(len(company)), 8]
    found = together(model, tokenizer, ["hi", *company, "some longer prompt"], seeds, temperature=1.0)
    assert_same_run(found[0], wanted[0])
    assert_same_run(found[-1], wanted[1])


def test_one_seed_is_for_every_prompt(model, tokenizer):
    shared = generate_batch(model, tokenizer, ["hi"] * 3, temperature=1.0, seed=5, max_new_tokens=12)
    assert tokens(shared[0]) == tokens(shared[1]) == tokens(shared[2])
    own = generate_batch(model, tokenizer, ["hi"] * 3, temperature=1.0, seed=[5, 6, 7], max_new_tokens=12)
    assert tokens(own[0]) == tokens(shared[0])
    assert len({tuple(tokens(trace)) for trace in own}) == 3


def test_headers_name_their_runs(model, tokenizer):
    headers = [trace.header for trace in together(model, tokenizer, temperature=0.5, routes="all", max_new_tokens=2)]
    assert [header.prompt for header in headers] == list(PROMPTS)
    assert [header.seed for header in headers] == list(SEEDS)
    assert {(header.engine, header.routes, header.temperature) for header in headers} == {
        ("reference, batched", "all", 0.5)
    }
    assert len({header.run_id for header in headers}) == len(PROMPTS)


def test_no_prompts_are_no_answers(model, tokenizer):
    model.forward = None
    assert generate_batch(model, tokenizer, []) == []
    assert generate_batch(model, tokenizer, [], seed=[]) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompts": ["good", " \n"]}, "prompt is empty"),
        ({"prompts": ["good", "half \ud83d emoji"]}, "not valid text at character 6"),
        ({"prompts": ["good", "x" * 300]}, "307 tokens, the model reads 255"),
        ({"seed": [0, -1]}, "seed must lie"),
        ({"max_new_tokens": 0}, "max_new_tokens must lie between 1 and 256"),
        ({"temperature": float("nan")}, "temperature must lie"),
        ({"top_p": 0.0}, "top_p must lie"),
        ({"threshold": 1.01}, "threshold must lie"),
        ({"routes": "most"}, "learned, all, none"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_refused_before_any_work(model, tokenizer, settings, words):
    model.forward = None  # any work would fail differently
    with pytest.raises(UsageError, match=words):
        generate_batch(model, tokenizer, **{"prompts": ["good", "also good"], **settings})


def test_the_engine_equals_the_model_on_whole_sequences(model):
    """Prefill, steps and dropped rows, against one pass over each sequence without padding."""
    sequences = [list(range(1, 4)), list(range(40, 60)), list(range(100, 111))]
    rows = [0, 1, 2]
    engine = BatchedReference(model, routes="learned", threshold=0.5)
    output = engine.prefill(sequences)
    for kept in ([0, 1, 2], [2, 0], [1], [0]):
        for row, number in enumerate(rows):
            with torch.inference_mode():
                whole = model(torch.tensor([sequences[number]]), threshold=0.5)
            torch.testing.assert_close(output.logits[row], whole.logits[0, -1], atol=1e-4, rtol=0)
            torch.testing.assert_close(output.gates[row], whole.gates[0, -1], atol=1e-5, rtol=0)
            assert output.executed[row].tolist() == whole.executed[0, -1].tolist()
        engine.keep(kept)
        rows = [rows[row] for row in kept]
        fed = [7 * number + len(kept) for number in rows]
        for number, token in zip(rows, fed, strict=True):
            sequences[number].append(token)
        output = engine.step(fed)
