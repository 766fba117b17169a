"""One run at a time, in order, and whatever ends a run frees the next."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from analysis.runs import Progress, Runner
from analysis.turns import Turns
from flexidepth.errors import CheckpointError, UsageError
from flexidepth.placement import Room
from flexidepth.shelf import Shelf
from flexidepth.trace import TokenStep, Trace, TraceHeader
from tests.ui.sample_traces import WORDS, make_header, make_steps


class Model:
    """Stands in for `generation.start`; remembers what it was asked and whether its steps were closed."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        self.fail_at = fail_at

    def start(
        self, _model: Any, _tokenizer: Any, prompt: str, **settings: Any
    ) -> tuple[TraceHeader, Iterator[TokenStep]]:
        self.asked.append({"prompt": prompt, **settings})
        if prompt == "refuse":
            raise UsageError("no")
        return make_header(), self.steps()

    def steps(self) -> Iterator[TokenStep]:
        try:
            for number, step in enumerate(make_steps()):
                if number == self.fail_at:
                    raise RuntimeError
                yield step
        finally:
            self.closed += 1


def collect(told: list[Progress], run: Iterator[Progress]) -> None:
    for now in run:
        told.append(now)


def runner(model: Model) -> Runner:
    return Runner(Shelf.holding({"toy": (None, None)}), model.start, Turns())


def test_a_run_ends_with_its_whole_trace() -> None:
    model = Model()
    subject = runner(model)
    told = list(subject.run("words", {"seed": 3}))
    assert model.asked == [{"prompt": "words", "seed": 3}]
    assert told[0].trace == Trace(make_header(), ())
    assert told[-1].trace is not None
    assert told[-1].trace.steps == make_steps()
    assert Trace.from_lines(told[-1].lines) == told[-1].trace
    assert json.loads(told[-1].lines[-1])["summary"]["tokens"] == len(WORDS)
    for earlier, later in pairwise(told):
        assert later.lines[: len(earlier.lines)] == earlier.lines
    assert (model.closed, len(subject.turns)) == (1, 0)


def test_closing_a_run_closes_the_model_and_frees_the_next() -> None:
    model = Model()
    subject = runner(model)
    run = subject.run("words", {})
    next(run)
    assert len(subject.turns) == 1
    run.close()
    assert len(subject.turns) == 0
    assert len(list(subject.run("again", {}))) >= 2


def test_closing_after_tokens_stops_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.runs.FLUSH_SECONDS", 0.0)
    model = Model()
    run = runner(model).run("words", {})
    told = [next(run) for _ in range(4)]
    run.close()
    assert model.closed == 1
    assert told[-1].trace is not None
    assert len(told[-1].trace.steps) == 3


def test_refusals_and_failures_free_the_next() -> None:
    model = Model(fail_at=5)
    subject = runner(model)
    with pytest.raises(UsageError):
        list(subject.run("refuse", {}))
    told: list[Progress] = []
    with pytest.raises(RuntimeError):
        collect(told, subject.run("words", {}))
    assert told[-1].trace is not None
    assert len(told[-1].trace.steps) == 5  # what came before the failure is not lost
    assert len(subject.turns) == 0


def test_a_second_run_waits_and_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.runs.LOOK_SECONDS", 0.01)
    model = Model()
    subject = runner(model)
    first, second, third = (subject.run(name, {}) for name in ("first", "second", "third"))
    next(first)
    assert next(second) == Progress(ahead=1)
    assert next(third) == Progress(ahead=2)
    second.close()
    assert next(third) == Progress(ahead=1)
    assert [asked["prompt"] for asked in model.asked] == ["first"]
    list(first)
    assert next(third).trace is not None


def test_turns_come_in_order() -> None:
    turns = Turns()
    tickets = [turns.ticket() for _ in range(3)]
    order: list[int] = []

    def work(number: int) -> None:
        with tickets[number] as ticket:
            assert ticket.wait(5)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2]
    assert [ticket.ahead() for ticket in tickets] == [0, 0, 0]
    assert not tickets[0].wait(0.01)  # who has left has no turn


def test_a_model_that_is_not_loaded_is_loaded_in_turn_and_named() -> None:
    order: list[str] = []
    model = Model()

    def load(name: str) -> tuple[Any, Any]:
        order.append(name)
        return None, None

    subject = Runner(Shelf(["near", "far"], load, lambda: Room(0)), model.start, Turns())
    with subject.turns.ticket():
        run = subject.run("words", {}, "far")
        assert next(run).waiting == {"ahead": 1}
        assert order == []
    told = list(run)
    assert told[0].waiting == {"loading": "far"}
    assert told[0].trace is None
    assert told[-1].trace is not None
    assert order == ["far"]
    assert not [now for now in subject.run("words", {}, "far") if now.trace is None]
    assert order == ["far"]


def test_a_model_that_cannot_be_loaded_frees_the_next_run() -> None:
    model = Model()

    def load(name: str) -> tuple[Any, Any]:
        if name == "broken":
            raise CheckpointError("a shard is missing: fetch it")
        return None, None

    subject = Runner(Shelf(["whole", "broken"], load, lambda: Room(0)), model.start, Turns())
    with pytest.raises(CheckpointError, match="a shard is missing"):
        list(subject.run("words", {}, "broken"))
    assert len(subject.turns) == 0
    assert list(subject.run("words", {}))[-1].trace is not None
