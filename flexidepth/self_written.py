"""Conversations that a model writes itself: answers to given messages or to the six tasks, or the messages too.

Training text of our own that may be passed on under the base's license: the base model's (routes "all"), or what the
routed model makes of the same prompts, on which training teaches it to go on where it errs. Knows the model and its
chat template; knows no trainer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from flexidepth.batch import generate_batch
from flexidepth.data import Conversation, conversations, paragraphs
from flexidepth.errors import UsageError
from flexidepth.generation import prompt_ids
from flexidepth.modeling import FlexiDepthForCausalLM

_BATCH = 32
_MESSAGE_TOKENS, _ANSWER_TOKENS = 64, 256
_PATIENCE = 20  # batches without one message that ends
_MARK = "\u2603"  # stands in the chat template where the user's message goes
Report = Callable[[int], None]


def answered(
    model: FlexiDepthForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[str],
    *,
    seed: int,
    temperature: float = 0.7,
    top_p: float = 0.95,
    routes: str = "all",
    report: Report = lambda _: None,
) -> Iterator[Conversation]:
    """Each user message with the model's answer to it, cut at 256 tokens. The seed of message i is seed + i.

    Raises UsageError for a message that is too long, before the first answer.
    """
    for message in messages:
        prompt_ids(tokenizer, message, chat=True, context=model.config.max_position_embeddings)
    for first in range(0, len(messages), _BATCH):
        batch = messages[first : first + _BATCH]
        traces = generate_batch(
            model,
            tokenizer,
            batch,
            max_new_tokens=_ANSWER_TOKENS,
            temperature=temperature,
            top_p=top_p,
            seed=[seed + first + number for number in range(len(batch))],
            routes=routes,
        )
        report(len(traces))
        for message, trace in zip(batch, traces, strict=True):
            yield [{"role": "user", "content": message}, {"role": "assistant", "content": trace.text}]


def imagined(
    model: FlexiDepthForCausalLM, tokenizer: PreTrainedTokenizerBase, count: int, *, seed: int
) -> Iterator[str]:
    """`count` user messages that the base model expects: what it writes after the chat template's opening.

    Messages that do not end within 64 tokens, or hold fewer than three words, are drawn again. Raises UsageError for a
    model without a chat template, and for one that ends no message in twenty batches.
    """
    if tokenizer.chat_template is None:
        raise UsageError("this model has no chat template to begin a message with: give messages of your own")
    template = tokenizer.apply_chat_template([{"role": "user", "content": _MARK}], tokenize=False)
    opening = str(template).split(_MARK)[0]
    given = fruitless = 0
    while given < count:
        if fruitless == _PATIENCE:
            raise UsageError("this model does not end the messages that it makes up: give messages of your own")
        before = given
        traces = generate_batch(
            model,
            tokenizer,
            [opening] * _BATCH,
            max_new_tokens=_MESSAGE_TOKENS,
            temperature=1.0,
            top_p=0.95,
            seed=list(range(seed, seed + _BATCH)),
            chat=False,
            routes="all",
        )
        seed += _BATCH
        for trace in traces:
            message = trace.text.strip()
            if given < count and trace.generated[-1].stop == "end_of_turn" and len(message.split()) >= 3:
                given += 1
                yield message
        fruitless = 0 if given > before else fruitless + 1


def read_messages(path: Path) -> list[str]:
    """One user message a line. Raises UsageError on a file that holds none."""
    try:
        messages = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError):
        messages = []
    if not messages:
        raise UsageError(f"no messages at {path}: give a UTF-8 text file with one message a line")
    return messages


def read_passages(path: Path) -> list[str]:
    """Paragraphs of the conversations in a file, for the tasks that need one. Raises UsageError when it has none."""
    found = [text for item in conversations(str(path)) for text in paragraphs(item)] if path.is_file() else []
    if not found:
        raise UsageError(f"{path} holds no paragraph for the tasks: first write there with --count")
    return found


def line_of(conversation: Conversation) -> str:
    return json.dumps({"messages": conversation}) + "\n"
