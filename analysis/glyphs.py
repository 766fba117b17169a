"""Token text -> pieces that a reader can see: white space, control and direction characters become labels.

Labels stand beside the real characters and never replace them in data. The page's script (`views/token_text.js`) cuts
text by the same rules; a browser test compares the two. Knows nothing of colours, traces or pages.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MANY_SPACES = 8  # a longer run becomes one label with its length

_NAMED = {"\n": "↵", "\t": "⇥", "\r": "CR"}
# Joiners and variation selectors shape the characters around them; only on their own they need a label.
_SHAPING = frozenset("\u200c\u200d\ufe0e\ufe0f")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_WHITE = re.compile(r"[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; `label` is what to show for it, `None` where the text shows itself."""

    text: str
    label: str | None


def pieces(text: str) -> tuple[Piece, ...]:
    """`text` in order, every character in exactly one piece."""
    only_white = _WHITE.fullmatch(text) is not None
    has_visible = any(not _hidden(character) for character in text)
    found: list[Piece] = []
    plain = ""
    place = 0
    while place < len(text):
        character = text[place]
        run = _run_of_spaces(text, place) if character == " " else 1
        label: str | None = None
        if character == " ":
            label = _spaces(run) if only_white or run > MANY_SPACES else None
        elif _hidden(character) and not (character in _SHAPING and has_visible):
            label = _NAMED.get(character) or code_point(character)
        elif only_white:
            label = code_point(character)
        if label is None:
            plain += text[place : place + run]
        else:
            if plain:
                found.append(Piece(plain, None))
                plain = ""
            found.append(Piece(text[place : place + run], label))
        place += run
    if plain:
        found.append(Piece(plain, None))
    return tuple(found)


def visible(text: str, space: str = "␣") -> str:
    """`text` in one line: labels in place of hidden characters, and `space` for every space."""
    shown = []
    for piece in pieces(text):
        if piece.label is not None:
            shown.append(piece.label)
        else:
            shown.append(piece.text.replace(" ", space))
    return "".join(shown)


def code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def _hidden(character: str) -> bool:
    return character in _SHAPING or unicodedata.category(character) in _HIDDEN_CATEGORIES


def _run_of_spaces(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end] == " ":
        end += 1
    return end - start


def _spaces(count: int) -> str:
    return "␣" * count if count <= MANY_SPACES else f"␣\u00d7{count}"
