"""The Library tab in a real browser: recorded runs without a model, a visitor's files, bad files, two visitors."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from analysis.library import recorded_entries
from analysis.recorded import append
from analysis.stats import token_table
from flexidepth.trace import Trace
from tests.recorded_runs import EVERY, NONE, make_recorded
from tests.ui.conftest import OpenPage, Server
from tests.ui.sample_traces import HOSTILE, make_steps, make_trace
from tests.ui.steps import SECONDS

pytestmark = pytest.mark.ui


@pytest.fixture
def library(page: Page) -> Page:
    page.get_by_role("tab", name="Library").click()
    expect(shown_tokens(page).first).to_be_visible(timeout=20 * SECONDS)
    return page


def view(page: Page) -> Locator:
    return page.locator("#library-view")


def shown_tokens(page: Page) -> Locator:
    return view(page).get_by_role("group", name="Generated tokens").get_by_role("button")


def drop(page: Page, *files: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open trace files").click()
    chooser.value.set_files(list(files))


def choice(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Run")


def test_a_recorded_run_opens_at_once_and_says_that_it_is_recorded(library: Page) -> None:
    first = recorded_entries()[0]
    expect(shown_tokens(library)).to_have_count(len(first.trace.generated))
    expect(library.get_by_text("Recorded, not live")).to_be_visible()
    expect(library.get_by_text(first.trace.header.checkpoint)).to_be_visible()
    expect(library.locator("#library-gates-figure .js-plotly-plot")).to_be_visible(timeout=20 * SECONDS)


def test_choosing_another_run_redraws_everything(library: Page) -> None:
    last = recorded_entries()[-1]
    choice(library).click()
    library.get_by_role("option", name=last.title).click()
    expect(shown_tokens(library)).to_have_count(len(last.trace.generated))
    expect(library.locator("#library-about")).to_contain_text(last.trace.header.prompt[:30])


def test_a_visitors_files_are_drawn_and_saved_again_as_they_were(library: Page, tmp_path: Path) -> None:
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    trace = make_trace()
    one.write_text("".join(line + "\n" for line in trace.to_lines()))
    append(many, [make_recorded([("x", EVERY), ("y", NONE)], task="add", number=number) for number in range(2)])
    drop(library, one, many)
    expect(shown_tokens(library)).to_have_count(len(trace.generated), timeout=20 * SECONDS)
    expect(library.locator("#library-about")).to_contain_text("one.jsonl")
    with library.expect_download() as download:
        library.locator("#library-results").get_by_role("button", name="Trace (.jsonl)").click()
    with download.value.path().open() as file:
        assert Trace.from_lines(file) == trace
    choice(library).click()
    expect(library.get_by_role("option")).to_have_count(len(recorded_entries()) + 3)


def test_a_bad_file_is_refused_with_its_reason_and_nothing_is_lost(library: Page, tmp_path: Path) -> None:
    bad = tmp_path / "<b>bad.jsonl"
    bad.write_text("{broken")
    before = shown_tokens(library).count()
    drop(library, bad)
    expect(library.get_by_text("no file of JSON lines")).to_be_visible(timeout=10 * SECONDS)
    assert shown_tokens(library).count() == before


def test_hostile_tokens_of_a_file_stay_text(library: Page, tmp_path: Path) -> None:
    path = tmp_path / "hostile.jsonl"
    trace = Trace(make_trace().header, make_steps(HOSTILE))
    path.write_text("".join(line + "\n" for line in trace.to_lines()))
    drop(library, path)
    expect(shown_tokens(library)).to_have_count(len(HOSTILE), timeout=20 * SECONDS)
    assert library.evaluate("window.__hit") is None
    assert len(token_table(trace)) == len(HOSTILE)


def test_another_visitor_sees_nothing_of_it(
    library: Page, tmp_path: Path, open_page: OpenPage, fake_app: Server
) -> None:
    path = tmp_path / "private.jsonl"
    append(path, [make_recorded([("secret", EVERY)], task="mine")])
    drop(library, path)
    expect(library.locator("#library-about")).to_contain_text("private.jsonl", timeout=20 * SECONDS)
    other = open_page(fake_app.url)
    other.get_by_role("tab", name="Library").click()
    expect(shown_tokens(other).first).to_be_visible(timeout=20 * SECONDS)
    choice(other).click()
    expect(other.get_by_role("option")).to_have_count(len(recorded_entries()))
    expect(other.get_by_text("private.jsonl")).to_have_count(0)
