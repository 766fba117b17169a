"""The Compare tab in a real browser: panels, curves, table, Stop, own inputs, refusals, files."""

from __future__ import annotations

import json
import re
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from analysis.recorded import read_recorded
from analysis.tasks import passages
from tests.ui.conftest import OpenPage, Server
from tests.ui.sample_traces import ROUTED, WORDS, make_steps
from tests.ui.steps import SECONDS, set_number

pytestmark = pytest.mark.ui

RAN = [sum(step.executed[place] for step in make_steps(WORDS)) for place in range(len(ROUTED))]


@pytest.fixture
def compare(page: Page) -> Page:
    page.get_by_role("tab", name="Compare").click()
    expect(view(page).get_by_role("status")).to_have_text("Choose tasks and press Run")
    return page


def view(page: Page) -> Locator:
    return page.locator("#compare-view")


def panel(page: Page, name: str) -> Locator:
    return view(page).get_by_role("region", name=name, exact=True)


def run_all(page: Page) -> None:
    page.get_by_role("button", name="Run all").click()
    expect(view(page).locator(".fdx-ended")).to_be_visible(timeout=30 * SECONDS)
    expect(page.get_by_role("button", name="Run all")).to_be_enabled(timeout=20 * SECONDS)


def test_each_task_has_its_panel_its_curve_and_its_row(compare: Page) -> None:
    run_all(compare)
    for name in ("Copy", "Summarize", "Continue"):
        expect(panel(compare, name).locator(".fdx-token")).to_have_count(len(WORDS))
        expect(panel(compare, name)).to_contain_text(passages()[0].title)
        expect(view(compare).get_by_role("row", name=re.compile(f"^{name} 1 {len(WORDS)} "))).to_be_visible()
    expect(view(compare).locator(".fdx-curve")).to_have_count(3)
    chart = view(compare).locator(".fdx-lines svg").get_attribute("aria-label") or ""
    for layer, ran in zip(ROUTED, RAN, strict=True):
        assert f"{layer + 1} {100 * ran / len(WORDS):.0f} %" in chart


def test_pointing_at_a_name_dims_the_other_curves(compare: Page) -> None:
    run_all(compare)
    view(compare).get_by_role("button", name="Summarize").hover()
    expect(view(compare).locator(".fdx-curve.fdx-dim")).to_have_count(2)
    expect(view(compare).locator('.fdx-curve[data-panel="1"]')).not_to_have_class(re.compile("fdx-dim"))
    compare.mouse.move(2, 2)
    expect(view(compare).locator(".fdx-curve.fdx-dim")).to_have_count(0)


def test_a_click_on_a_point_opens_its_run_and_marks_the_tokens_of_that_layer(compare: Page) -> None:
    run_all(compare)
    place = 3
    view(compare).locator(f'.fdx-curve[data-panel="2"] .fdx-curve-point[data-place="{place}"]').dispatch_event("click")
    expect(panel(compare, "Continue").locator(".fdx-marked")).to_have_count(RAN[place])
    expect(panel(compare, "Copy").locator(".fdx-marked")).to_have_count(0)
    expect(panel(compare, "Continue").locator(".fdx-token").first).to_be_focused()
    expect(view(compare).get_by_role("region", name="Token details")).to_be_visible()


def test_several_inputs_have_intervals_and_can_be_chosen(compare: Page) -> None:
    for name in ("Summarize", "Continue"):
        compare.locator("#compare-tasks").get_by_label(name).uncheck(force=True)
    set_number(compare.get_by_role("spinbutton", name="Inputs a task"), "2")
    run_all(compare)
    expect(view(compare).get_by_role("row", name=re.compile(rf"^Copy 2 {2 * len(WORDS)} .* to "))).to_be_visible()
    expect(panel(compare, "Copy")).to_contain_text(passages()[1].title)
    panel(compare, "Copy").get_by_role("button", name="1", exact=True).click()
    expect(panel(compare, "Copy").locator(".fdx-panel-title")).to_have_text(passages()[0].title)


def test_own_inputs_are_run_and_a_bad_list_is_said(compare: Page) -> None:
    compare.get_by_role("button", name="Own text, own list, settings").click()
    compare.get_by_label("Own list for repeat, add, multiply").fill("one, two")
    compare.locator("#compare-tasks").get_by_label("Add").check(force=True)
    compare.get_by_role("button", name="Run all").click()
    expect(compare.get_by_text("the list must be whole numbers")).to_be_visible(timeout=10 * SECONDS)
    expect(compare.get_by_role("button", name="Run all")).to_be_enabled(timeout=20 * SECONDS)
    compare.get_by_label("Own list for repeat, add, multiply").fill("3, 4")
    compare.get_by_label("Own text for copy, summarize, continue").fill("My <b>own</b> text.")
    run_all(compare)
    expect(panel(compare, "Add")).to_contain_text("your own list")
    expect(panel(compare, "Copy")).to_contain_text("your own text")


def test_stop_keeps_what_came_and_the_next_run_begins_anew(compare: Page, fake_app: Server) -> None:
    compare.get_by_role("button", name="Own text, own list, settings").click()
    compare.get_by_role("button", name="Run all").click()
    compare.get_by_role("button", name="Stop").last.click()
    expect(compare.get_by_role("button", name="Run all")).to_be_enabled(timeout=20 * SECONDS)
    run_all(compare)
    expect(panel(compare, "Continue").locator(".fdx-token")).to_have_count(len(WORDS))


def test_the_files_hold_what_is_shown(compare: Page) -> None:
    run_all(compare)
    files = compare.locator("#compare-files")
    expect(files).to_be_visible(timeout=20 * SECONDS)
    with compare.expect_download() as download:
        files.get_by_role("button", name="Runs (.jsonl)").click()
    runs = list(read_recorded(download.value.path()))
    assert [run.prompt.task for run in runs] == ["copy", "summarize", "continue"]
    assert all(len(run.trace.generated) == len(WORDS) for run in runs)
    with compare.expect_download() as download:
        files.get_by_role("button", name="Summary (.json)").click()
    summary = json.loads(download.value.path().read_text())
    cells = view(compare).get_by_role("row", name=re.compile("^Copy ")).get_by_role("cell").all_inner_texts()
    assert cells[2] == f"{summary['tasks']['copy']['mean_layers']:.2f}"
    with compare.expect_download() as download:
        files.get_by_role("button", name="Report (.html)").click()
    assert "Layers used by task" in download.value.path().read_text()
    with compare.expect_download() as download:
        files.get_by_role("button", name="Bowls (.svg)").click()
    drawn = download.value.path().read_text()
    assert all(name in drawn for name in ("copy", "summarize", "continue"))
    with compare.expect_download() as download:
        files.get_by_role("button", name="Bowls (.png)").click()
    with Image.open(download.value.path()) as picture:
        size = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn)
        assert size is not None
        assert picture.size == (2 * int(size[1]), 2 * int(size[2]))
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10
    with compare.expect_download() as download:
        files.get_by_role("button", name="All of it (.zip)").click()
    with zipfile.ZipFile(download.value.path()) as everything:
        names = set(everything.namelist())
        assert json.loads(everything.read("comparison/summary.json")) == summary
        captions = everything.read("comparison/figures/captions.txt").decode()
    assert {"comparison/tokens.parquet", "comparison/figures/along.svg", "comparison/report.html"} <= names
    caption = files.locator(".fdx-caption textarea").input_value()
    assert f"bowls.svg: {caption}\n" in captions
    assert "up to 1 input a task, greedy, " in caption
    assert caption.endswith(f"(3 answers, {3 * len(WORDS)} tokens).")


def test_a_click_pins_the_card_of_a_token_until_the_next_click(compare: Page) -> None:
    run_all(compare)
    details = view(compare).get_by_role("region", name="Token details")
    tokens = panel(compare, "Summarize").locator(".fdx-token")
    tokens.nth(2).click()
    expect(details).to_contain_text("pinned")
    panel(compare, "Copy").locator(".fdx-token").nth(4).hover()
    expect(details).to_contain_text("token 3 ")
    tokens.nth(5).click()
    expect(details).to_contain_text("token 6 ")
    expect(view(compare).locator(".fdx-token.fdx-pinned")).to_have_count(1)
    compare.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(view(compare).locator(".fdx-token.fdx-pinned")).to_have_count(0)


@pytest.mark.parametrize(("theme", "width"), [("dark", 1280), ("light", 420)])
def test_it_fits_both_themes_and_a_narrow_window(
    open_page: OpenPage, fake_app: Server, theme: str, width: int
) -> None:
    page = open_page(fake_app.url, theme=theme, width=width)
    page.get_by_role("tab", name="Compare").click()
    run_all(page)
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert over <= 0, "nothing makes the page scroll sideways"
