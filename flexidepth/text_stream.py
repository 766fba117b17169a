"""Token ids one by one -> text, whole characters only. Knows the tokenizer; knows no model."""

from __future__ import annotations

from typing import Any

from tokenizers.decoders import DecodeStream
from transformers.tokenization_utils_base import PreTrainedTokenizerBase


class TextStream:
    """Turns ids into text as they come; a character split over tokens appears with the token that completes it."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context: list[int], skip_special_tokens: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        self.skip = skip_special_tokens
        # The prompt's last ids come first: some decoders drop a leading space where they see no text before it.
        self.stream = DecodeStream(ids=context[-8:], skip_special_tokens=skip_special_tokens)
        self.ids: list[int] = []
        self.shown = ""

    def add(self, token_id: int, *, last: bool) -> str:
        self.ids.append(token_id)
        piece = self.stream.step(self.tokenizer.backend_tokenizer, token_id) or ""
        if last:  # a character that will never be finished is shown as what is there of it
            whole: Any = self.tokenizer.decode(
                self.ids, skip_special_tokens=self.skip, clean_up_tokenization_spaces=False
            )
            so_far = self.shown + piece
            if len(whole) > len(so_far) and whole.startswith(so_far):
                piece += whole[len(so_far) :]
        self.shown += piece
        return piece
