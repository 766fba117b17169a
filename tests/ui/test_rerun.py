"""The same prompt at another threshold, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.conftest import Server
from tests.ui.sample_traces import WORDS
from tests.ui.steps import SECONDS, button, run_to_end, set_number, tokens

pytestmark = pytest.mark.ui


def beside(page: Page, name: str) -> Locator:
    return page.locator("#fdx-rerun-view").get_by_role("region", name=name, exact=True)


def run_beside(page: Page, threshold: str) -> None:
    set_number(page.locator("#fdx-rerun-threshold").get_by_role("spinbutton"), threshold)
    page.get_by_role("button", name="Run beside").click()
    expect(page.locator("#fdx-rerun-view .fdx-ended")).to_be_visible(timeout=20 * SECONDS)


def test_before_and_after_stand_side_by_side_with_their_first_difference_marked(page: Page) -> None:
    expect(page.locator("#fdx-rerun")).to_be_hidden()
    run_to_end(page, "differs")
    run_beside(page, "0.3")
    before, after = beside(page, "threshold 0.5"), beside(page, "threshold 0.3")
    expect(before.locator(".fdx-token")).to_have_count(len(WORDS))
    expect(after.locator(".fdx-token")).to_have_count(len(WORDS))
    for side in (before, after):
        expect(side.locator(".fdx-differs")).to_have_count(1)
        expect(side.locator(".fdx-differs")).to_have_attribute("data-place", "4")
    expect(after).to_contain_text("differs from token 5 on")


def test_equal_answers_are_said_to_be_equal(page: Page) -> None:
    run_to_end(page, "words")
    run_beside(page, "0.4")
    expect(beside(page, "threshold 0.4")).to_contain_text(f"the same {len(WORDS)} tokens")
    expect(page.locator("#fdx-rerun-view .fdx-differs")).to_have_count(0)


def test_the_next_run_puts_it_away(page: Page) -> None:
    run_to_end(page, "words")
    run_beside(page, "0.4")
    run_to_end(page, "other words")
    expect(page.locator("#fdx-rerun-view")).to_be_hidden()
    expect(page.locator("#fdx-rerun-threshold")).to_be_visible()


def test_leaving_the_number_by_a_click_on_the_button_runs_once(page: Page, fake_app: Server) -> None:
    run_to_end(page, "words")
    fake_app.drain()
    before = len(fake_app.lines)
    run_beside(page, "0.4")
    run_beside(page, "0.3")
    expect(beside(page, "threshold 0.3")).to_be_visible()
    fake_app.drain()
    assert [line for line in fake_app.lines[before:] if line.startswith("closed")] == [
        f"closed other after {len(WORDS)}"
    ] * 2


def test_a_refused_second_run_is_said_and_leaves_the_first(page: Page) -> None:
    run_to_end(page, "words")
    set_number(page.locator("#fdx-rerun-threshold").get_by_role("spinbutton"), "0.99")
    expect(page.get_by_text("threshold 0.99 is refused").first).to_be_visible(timeout=10 * SECONDS)
    expect(tokens(page)).to_have_count(len(WORDS))
    expect(button(page, "Run")).to_be_enabled()
