"""Agreement of engines: exact for the reference with itself, near for the cpu engine, and seen when weights differ."""

from __future__ import annotations

import json

import pytest

from flexidepth.agreement import agreement
from flexidepth.cli import main
from tests.conftest import build_model, needs_compiler
from tests.test_cpu_engine import random_ids

DOCUMENTS = [random_ids(30), random_ids(25, seed=4)]


def agreement_of(model, engine, tokens=1000):
    done: list[int] = []
    found = agreement(model, DOCUMENTS, engine=engine, tokens=tokens, report=done.append)
    assert sum(done) == found.tokens
    return found


@needs_compiler
def test_the_cpu_engine_agrees():
    found = agreement_of(build_model(), "cpu")
    assert (found.tokens, found.decisions, found.flips, found.farthest_flip) == (55, 110, 0, 0.0)
    assert found.kl < 1e-6
    assert found.largest_logit_error < 1e-3
    assert found.same_likeliest == 1
    assert agreement_of(build_model(), "cpu", tokens=40).tokens == 40


@needs_compiler
def test_rounded_weights_show():
    whole, rounded = agreement_of(build_model(), "cpu"), agreement_of(build_model(), "cpu-int8")
    assert rounded.kl > 100 * max(whole.kl, 0.0)
    assert rounded.largest_logit_error > 10 * whole.largest_logit_error
    # A flip needs a gate that rounding can carry over the threshold.
    assert rounded.farthest_flip < 0.1


@needs_compiler
def test_the_command(tiny, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("The sea was calm that morning.\nAnother line.\n", encoding="utf-8")
    assert main(["agree", str(text), "--model", tiny, "--engine", "cpu", "--tokens", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["tokens"], found["flips"]) == ("cpu", 20, 0)
    assert main(["agree", str(text), "--model", tiny, "--engine", "cpu"]) == 0
    assert "0 of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.txt"], "no file at nowhere.txt"),
        (["nowhere.txt", "--tokens", "0"], "at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    assert main(["agree", *arguments]) == 2
    assert words in capsys.readouterr().err
