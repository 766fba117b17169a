"""The real page over a stand-in for the model, whose answers the prompt chooses. Run as a script; prints its URL.

Prompts: `hostile`, `slow <word>` (400 tokens, 10 a second), `fail` (breaks after five tokens), `refuse`, `long` (600
tokens at once), `differs` (its fifth token is another below threshold 0.5); anything else answers with a few words.
Threshold 0.99 is refused. Prints `closed <word> after N` when a run ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import app
from flexidepth.errors import UsageError
from flexidepth.trace import TokenStep, TraceHeader
from tests.ui.sample_traces import HOSTILE, NUM_LAYERS, ROUTED, WORDS, make_header, make_steps


def start(_model: Any, _tokenizer: Any, prompt: str, **settings: Any) -> tuple[TraceHeader, Iterator[TokenStep]]:
    if prompt == "refuse":
        raise UsageError("the prompt has 9000 tokens and the model takes 8192: shorten it")
    if settings["temperature"] > 1.9:
        raise UsageError("temperature must lie between 0 and 1.9")
    threshold = 0.5 if settings["threshold"] is None else settings["threshold"]
    if threshold == 0.99:
        raise UsageError("threshold 0.99 is refused: choose another")
    header = make_header(run_id=f"run{time.monotonic_ns()}", prompt=prompt, threshold=threshold)
    word, _, rest = prompt.partition(" ")
    texts: tuple[str, ...] = {"hostile": HOSTILE, "slow": (f" {rest}",) * 400, "long": (" word",) * 600}.get(
        word, WORDS
    )
    limit = int(settings["max_new_tokens"])
    stop = "end_of_turn" if len(texts) <= limit else "max_new_tokens"
    steps = make_steps(texts[:limit], stop=stop, seed=int(settings["seed"]))
    if word == "differs" and threshold < 0.5:
        steps = (*steps[:4], replace(steps[4], token_id=7, text=" other"), *steps[5:])
    return header, _yield(steps, word, rest if word == "slow" else "other")


def _yield(steps: tuple[TokenStep, ...], word: str, name: str) -> Iterator[TokenStep]:
    done = 0
    try:
        for step in steps:
            if word == "slow":
                time.sleep(0.1)
            if word == "fail" and done == 5:
                raise RuntimeError("secret words of a visitor")
            yield step
            done += 1
    finally:
        sys.stdout.write(f"closed {name} after {done}\n")
        sys.stdout.flush()


def main() -> None:
    config = SimpleNamespace(num_hidden_layers=NUM_LAYERS, routed_layers=list(ROUTED), threshold=0.5)
    demo = app.build_demo(SimpleNamespace(config=config), None, "toy <b>model</b>", start=start)
    port = app.check_port("127.0.0.1", 0)
    _, url, _ = demo.launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **app.launch_settings()
    )
    sys.stdout.write(f"serves at {url}\n")
    sys.stdout.flush()
    demo.block_thread()


if __name__ == "__main__":
    main()
