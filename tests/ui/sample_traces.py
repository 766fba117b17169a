"""Traces made for tests: a readable one and one whose tokens try to break the page. No model is involved."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from flexidepth.trace import Candidate, TokenStep, Trace, TraceHeader

NUM_LAYERS = 30
ROUTED = tuple(range(15, 30))

WORDS = (
    "The",
    " seal",
    " slept",
    " for",
    " four",
    " days",
    ".",
    "\n\n",
    "Then",
    " it",
    " un",
    "rolled",
    ",",
    " yawned",
    " and",
    " left",
    ".",
    "  ",
    "=1",
    "+2",
    " 🦭",
    "",
)

HOSTILE = (
    "<img src=x onerror=\"window.__hit='img'\">",
    "<script>window.__hit='script'</script>",
    "</span></section><h1>broken out</h1>",
    "${window.__hit='template'}",
    "${document.body.classList.add('hit')}",
    "`${5+}`",
    "{{value}}",
    "{{#each value}}{{this}}{{/each}}",
    "@children",
    "<b>bold</b> &amp; &lt;",
    "%{x} %{customdata}",
    "javascript:alert(1)",
    "\u202egnp.exe\u202c",
    "\u2066isolated",
    "\u200b",
    "\u0000\u0007\u001b[31m",
    "\u0085",
    "\ud83d",
    "half\udc00emoji",
    "\r\n",
    "\t",
    "\n",
    "\n\n\n",
    " " * 10_000,
    "   ",
    "\u00a0",
    "\ufeff",
    "\u2028",
    "\ufe0f",
    "👩\u200d💻",
    "مرحبا",
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@sum",
    "'; DROP TABLE tokens; --",
    "\\u0041\\n",
    "e\u0301",
    "",
)


def make_header(run_id: str = "run0", prompt: str = "Say something.", threshold: float = 0.5) -> TraceHeader:
    return TraceHeader(
        run_id=run_id,
        model="toy",
        checkpoint="0123abcd",
        num_layers=NUM_LAYERS,
        routed_layers=ROUTED,
        threshold=threshold,
        gate_scaling="scaled",
        routes="learned",
        engine="none",
        dtype="float32",
        seed=0,
        temperature=0.0,
        top_p=1.0,
        max_new_tokens=128,
        chat=True,
        prompt=prompt,
        versions={"torch": "0"},
    )


def make_steps(
    texts: Sequence[str] = WORDS, seed: int = 0, stop: str | None = "end_of_turn", seconds: float = 0.05
) -> tuple[TokenStep, ...]:
    """Gates that make a bowl, with enough noise for every depth to differ; the last step says why it stopped."""
    source = random.Random(seed)
    steps = []
    for index, text in enumerate(texts):
        gates = []
        for place in range(len(ROUTED)):
            middle = math.sin(math.pi * (place + 0.5) / len(ROUTED)) ** 2
            gates.append(min(0.999, max(0.001, 0.95 - 0.7 * middle + source.gauss(0, 0.25))))
        executed = tuple(gate > 0.5 for gate in gates)
        probability = source.uniform(0.2, 0.9)
        steps.append(
            TokenStep(
                index=index,
                token_id=1000 + index,
                text=text,
                is_prompt=False,
                logprob=math.log(probability),
                entropy=source.uniform(0.1, 3.0),
                top=(
                    Candidate(1000 + index, text, math.log(probability)),
                    Candidate(5, "<i>other</i>", math.log(0.1)),
                    Candidate(6, "\n", math.log(0.05)),
                ),
                gates=tuple(gates),
                executed=executed,
                layers_used=NUM_LAYERS - len(ROUTED) + sum(executed),
                seconds=seconds + 0.001 * index,
                stop=stop if index == len(texts) - 1 else None,
            )
        )
    return tuple(steps)


def make_trace(texts: Sequence[str] = WORDS, **settings: object) -> Trace:
    prompt = str(settings.pop("prompt", "Say something."))
    return Trace(make_header(prompt=prompt), make_steps(texts, **settings))  # type: ignore[arg-type]
