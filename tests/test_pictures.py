"""PNG and PDF of our SVG, by the real Kaleido and Chromium where they are there."""

from __future__ import annotations

import shutil
import sys

import pytest

from analysis.pictures import NoPicturesError, write_pictures

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 120"><rect width="300" height="120" fill="#ffffff"/>'
    '<rect x="10" y="10" width="100" height="50" fill="#0000ff"/></svg>\n'
)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "one.svg"
    path.write_text(SVG)
    return path


@pytest.mark.ui
def test_png_and_pdf_of_the_same_picture(picture):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is missing")
    made = write_pictures([picture])
    assert [path.name for path in made] == ["one.png", "one.pdf"]
    png, pdf = (path.read_bytes() for path in made)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (600, 240), "twice the SVG's size"
    assert pdf.startswith(b"%PDF-")
    assert b"/Subtype /Image" not in pdf, "vectors, not pixels"
    assert picture.read_text() == SVG


def test_without_a_browser_it_says_what_to_install(picture, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    with pytest.raises(NoPicturesError, match="install chromium; the SVG files are there") as refused:
        write_pictures([picture])
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in picture.parent.iterdir()) == ["one.svg"]


def test_without_kaleido_it_says_what_to_install(picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(NoPicturesError, match="pip install kaleido"):
        write_pictures([picture])
