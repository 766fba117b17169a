"""Recorded runs made for tests from tokens and the layers each took. No model is involved."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import replace

from analysis.recorded import Prompt, Recorded
from flexidepth.trace import TokenStep, Trace
from tests.ui.sample_traces import make_header

NUM_LAYERS = 4
ROUTED = (2, 3)
Token = tuple[str, tuple[bool, ...]]

EVERY = (True, True)
NONE = (False, False)


def make_recorded(
    tokens: Sequence[Token],
    *,
    task: str = "copy",
    number: int = 0,
    source: str = "",
    stop: str = "end_of_turn",
    before: Sequence[Token] = (),
) -> Recorded:
    """A run of four layers, the last two of them routed. Tokens of the same text have the same id; `before` are
    tokens of the prompt, recorded too.
    """
    steps = [
        TokenStep(
            index=index,
            token_id=zlib.crc32(text.encode("utf-8", "replace")) % 2**31,
            text=text,
            is_prompt=index < len(before),
            logprob=-0.5,
            entropy=1.0,
            top=(),
            gates=tuple(0.9 if run else 0.1 for run in executed),
            executed=executed,
            layers_used=NUM_LAYERS - len(ROUTED) + sum(executed),
            seconds=0.01,
        )
        for index, (text, executed) in enumerate([*before, *tokens])
    ]
    steps[-1] = replace(steps[-1], stop=stop)
    header = replace(make_header(), num_layers=NUM_LAYERS, routed_layers=ROUTED)
    return Recorded(Prompt(task, number, "made for a test", source, header.prompt), Trace(header, tuple(steps)))


def answered(text: str, **prompt: str) -> Recorded:
    """A run whose answer is this text, cut into `pieces`, with every layer."""
    return make_recorded([(piece, EVERY) for piece in pieces(text)] or [("", EVERY)], **prompt)  # type: ignore[arg-type]


def pieces(text: str) -> list[str]:
    """A text cut as a tokenizer would: words and numbers with the blank before them, signs, white space."""
    return re.findall(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+", text)
