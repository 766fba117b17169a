"""Every hidden character gets a label, no character gets lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.glyphs import pieces, visible

ANYTHING = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the", "␣the"),
        ("a  b", "a␣␣b"),
        (" ", "␣"),
        (" " * 9, "␣\u00d79"),
        ("x" + " " * 20 + "y", "x␣\u00d720y"),
        ("\n\n", "↵↵"),
        ("\r\n\t", "CR↵⇥"),
        ("\u202etxt", "U+202Etxt"),
        ("\u200b", "U+200B"),
        ("\x00", "U+0000"),
        ("\ud83d", "U+D83D"),
        ("\ufe0f", "U+FE0F"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("\u00a0", "U+00A0"),
        ("a\u00a0b", "a\u00a0b"),
        ("\u2028", "U+2028"),
        ("", ""),
    ],
)
def test_known_texts(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANYTHING)
def test_pieces_keep_every_character(text: str) -> None:
    assert "".join(piece.text for piece in pieces(text)) == text


@given(ANYTHING)
def test_what_is_shown_is_seen(text: str) -> None:
    for character in visible(text):
        assert character in "\u200c\u200d" or unicodedata.category(character) not in (
            "Cc",
            "Cf",
            "Cs",
            "Co",
            "Zl",
            "Zp",
        )
    assert bool(visible(text)) == bool(text)
