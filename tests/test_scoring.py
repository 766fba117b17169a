"""Scores against the same numbers computed the plain way."""

from __future__ import annotations

import json

import pytest
import torch

from flexidepth import scoring
from flexidepth.errors import UsageError


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path.write_text('One line.\n\n{"text": "Two\\nlines é"}\n' + json.dumps({"messages": messages}))
    return path


def test_numbers_by_the_plain_way(model, tokenizer, text_file, monkeypatch):
    documents = scoring.read_documents(text_file, tokenizer)
    assert [tokenizer.decode(ids) for ids in documents] == ["One line.", "Two\nlines é", "<s>u:q</s><s>a:a</s>"]
    found = scoring.score(model, tokenizer, text_file)
    nll, base_nll, kl, depths = [], [], [], []
    for ids in documents:
        x = torch.tensor([ids])
        with torch.inference_mode():
            out, base = model(x), model(x, routes="all")
        q, p = out.logits[0, :-1].log_softmax(-1), base.logits[0, :-1].log_softmax(-1)
        nll.append(-q[range(len(ids) - 1), ids[1:]])
        base_nll.append(-p[range(len(ids) - 1), ids[1:]])
        kl.append((p.exp() * (p - q)).sum(-1))
        depths.append(2.0 + out.executed[0, :-1].sum(-1))
    depth = torch.cat(depths)
    assert found.tokens == len(depth)
    assert found.nll == pytest.approx(torch.cat(nll).mean().item(), rel=1e-4)
    assert found.base_nll == pytest.approx(torch.cat(base_nll).mean().item(), rel=1e-4)
    assert found.kl_to_base == pytest.approx(torch.cat(kl).mean().item(), rel=1e-3)
    assert found.mean_layers_used == pytest.approx(depth.mean().item())
    assert found.std_layers_used == pytest.approx(depth.std(correction=0).item())
    assert sum(found.per_layer_usage) == pytest.approx(found.mean_layers_used)
    monkeypatch.setattr(scoring, "WINDOW", 4)
    windowed = scoring.score(model, tokenizer, text_file)
    assert windowed.tokens == found.tokens, "windows lose no prediction"


def test_all_routes_are_the_base(model, tokenizer, text_file):
    found = scoring.score(model, tokenizer, text_file, routes="all")
    assert found.kl_to_base == 0.0
    assert found.nll == found.base_nll
    assert found.mean_layers_used == 4.0


@pytest.mark.parametrize("routes", ["learned", "random", "static", "static-equal"])
def test_a_threshold_of_the_call_replaces_the_checkpoints(make_model, tokenizer, text_file, routes):
    model = make_model(threshold=0.5)
    low = scoring.score(model, tokenizer, text_file, routes=routes, threshold=0.0)
    assert low.threshold == 0.0
    assert low.mean_layers_used == 4.0, "every gate is above 0"
    model.config.threshold = 0.52
    expected = scoring.score(model, tokenizer, text_file, routes=routes)
    model.config.threshold = 0.5
    assert scoring.score(model, tokenizer, text_file, routes=routes, threshold=0.52) == expected
    assert model.config.threshold == 0.5


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_its_range_is_refused(model, tokenizer, text_file, threshold):
    with pytest.raises(UsageError, match="between 0 and 1"):
        scoring.score(model, tokenizer, text_file, threshold=threshold)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"\n \n", "no document"),
        (b'ok\n{"text": ', "line 2 starts like JSON"),
        (b'{"title": "x"}', 'line 1 has neither "text" nor "messages"'),
    ],
)
def test_unreadable_files_are_refused_with_the_place(tmp_path, tokenizer, content, words):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        scoring.read_documents(path, tokenizer)
    with pytest.raises(UsageError, match="no file"):
        scoring.read_documents(tmp_path / "none.txt", tokenizer)


def test_held_out_documents_are_those_kept_from_training(tmp_path, tokenizer):
    from flexidepth.data import is_held_out

    path = tmp_path / "data.jsonl"
    items = [
        [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i} " * 400}] for i in range(300)
    ]
    path.write_text("\n".join(json.dumps({"messages": item}) for item in items))
    documents = scoring.read_documents(f"held-out:{path}", tokenizer)
    kept = [item for item in items if is_held_out(item)]
    assert len(documents) == len(kept) > 0
    assert all(len(ids) == scoring.WINDOW + 1 for ids in documents)
    assert tokenizer.decode(documents[0]).startswith(f"<s>u:{kept[0][0]['content']}</s>")
