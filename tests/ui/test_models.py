"""Choosing a model, in a real browser: the page follows it, runs and reruns take it, links bring it, the rest has its
reason. Two tiny models in the released layout, of 4 and of 6 layers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from gradio_client import Client
from playwright.sync_api import Page, expect

from flexidepth.trace import Trace
from tests.released_layout import write_released
from tests.ui.conftest import OpenPage, Server, serve
from tests.ui.steps import SECONDS, button, fill, run_to_end, status, view

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    home = tmp_path_factory.mktemp("models")
    write_released(home / "four")
    write_released(home / "six", num_hidden_layers=6, routed_layers=[2, 3, 4, 5], threshold=0.5)
    write_released(home / "broken")
    next((home / "broken").glob("model-00002*")).unlink()
    return [str(home / name) for name in ("four", "six", "broken")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: list[str]) -> Iterator[Server]:
    environment = {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("exports"))}
    command = [sys.executable, "app.py", "--port", "0"]
    for name in models:
        command += ["--model", name]
    with serve(command, environment, "FlexiDepth Viewer serves", 120) as running:
        yield running


def choose(page: Page, title: str) -> None:
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name=title).click()


def legend(page: Page, which: str = "#fdx-view") -> str:
    return page.locator(which).get_by_role("img", name=re.compile("Legend")).get_attribute("aria-label") or ""


def trace_of(page: Page) -> Trace:
    with page.expect_download() as saving:
        button(page, "Trace (.jsonl)").click()
    return Trace.from_lines(saving.value.path().read_text(encoding="utf-8").splitlines())


def test_the_page_becomes_that_of_the_chosen_model(open_page: OpenPage, server: Server, models: list[str]) -> None:
    page = open_page(server.url)
    expect(page.get_by_role("combobox", name="Model")).to_have_value("four")
    expect(page.locator("#fdx-title")).to_contain_text("how many of its 4 layers")
    assert legend(page).endswith("2 to 4 layers used")
    choose(page, "six")
    expect(page.locator("#fdx-title")).to_contain_text("how many of its 6 layers")
    expect(page.get_by_role("heading", level=1)).to_contain_text("six")
    expect(view(page).get_by_role("img", name="2 to 6 layers used")).to_be_visible()
    run_to_end(page, "Hi", 60)
    trace = trace_of(page)
    assert (trace.header.model, trace.header.num_layers) == (models[1], 6)
    expect(status(page)).to_contain_text("of 6 layers on average")
    # Another choice leaves the run that is shown as it is, and its rerun takes the model of that run.
    choose(page, "four")
    expect(page.locator("#fdx-title")).to_contain_text("how many of its 4 layers")
    assert legend(page).endswith("2 to 6 layers used")
    button(page, "Run beside").click()
    beside = page.locator("#fdx-rerun-view")
    expect(beside.locator(".fdx-ended")).to_be_visible(timeout=60 * SECONDS)
    assert legend(page, "#fdx-rerun-view").endswith("2 to 6 layers used")
    expect(beside).to_contain_text("the same")
    run_to_end(page, "Hi", 60)
    assert trace_of(page).header.model == models[0]


def test_compare_runs_the_chosen_model(open_page: OpenPage, server: Server) -> None:
    page = open_page(server.url)
    choose(page, "six")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-view").get_by_role("img", name="2 to 6 layers used")).to_be_visible()
    for task in ("Copy", "Summarize", "Continue"):
        page.locator("#compare-tasks").get_by_role("checkbox", name=task).uncheck()
    page.locator("#compare-tasks").get_by_role("checkbox", name="Add").check()
    page.locator("#compare-run").click()
    expect(page.locator("#compare-view .fdx-ended")).to_be_visible(timeout=60 * SECONDS)
    expect(page.locator("#compare-view").get_by_role("img", name="2 to 6 layers used")).to_be_visible()


def test_models_that_cannot_run_are_listed_with_the_reason(open_page: OpenPage, server: Server) -> None:
    page = open_page(server.url)
    missing = page.locator("#fdx-missing")
    missing.get_by_text("Not on this machine: broken, FlexiDepth-Llama-3-8B-Instruct").click()
    expect(missing.get_by_role("listitem").filter(has_text="broken")).to_contain_text("lacks model-00002-of")
    release = missing.get_by_role("listitem").filter(has_text="FlexiDepth-Llama-3-8B-Instruct")
    expect(release).to_contain_text(re.compile("needs .* GB of memory|is not downloaded"))
    page.get_by_role("combobox", name="Model").click()
    offered = [text.replace("✓", "").strip() for text in page.get_by_role("option").all_text_contents()]
    assert offered[:2] == ["four", "six"]
    assert not [text for text in offered if "broken" in text or "Llama" in text]


def test_a_link_brings_the_model_and_its_own_threshold(open_page: OpenPage, server: Server, models: list[str]) -> None:
    page = open_page(server.url)
    choose(page, "six")
    expect(page.locator("#fdx-title")).to_contain_text("6 layers")
    fill(page, "Hi")
    page.get_by_role("button", name="Settings", exact=False).first.click()
    button(page, "Link to this prompt and these settings").click()
    link = page.locator("#fdx-link textarea")
    expect(link).to_have_value(re.compile("^http"), timeout=10 * SECONDS)
    address = link.input_value()
    assert parse_qs(urlsplit(address).query)["model"] == [models[1]]
    other = open_page(address.replace("threshold=0.5", "threshold=0.3"))
    expect(other.get_by_role("combobox", name="Model")).to_have_value("six", timeout=20 * SECONDS)
    expect(other.locator("#fdx-title")).to_contain_text("6 layers")
    other.get_by_role("button", name="Settings", exact=False).first.click()
    expect(other.get_by_role("spinbutton", name="Gate threshold").first).to_have_value("0.3")
    run_to_end(other, "Hi", 60)
    assert trace_of(other).header.num_layers == 6


def test_a_link_to_a_model_that_cannot_run_says_why(open_page: OpenPage, server: Server, models: list[str]) -> None:
    page = open_page(f"{server.url}?prompt=hello&model={models[2]}")
    expect(page.get_by_text("its model cannot run here: it cannot be read")).to_be_visible(timeout=20 * SECONDS)
    expect(page.get_by_role("combobox", name="Model")).to_have_value("four")
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value("hello")


def test_endpoints_take_the_model_given_at_start(server: Server, models: list[str], tmp_path: Path) -> None:
    client = Client(server.url, analytics_enabled=False, verbose=False, download_files=str(tmp_path))
    whole = client.predict("Hi", max_new_tokens=3, api_name="/trace")
    assert (whole["trace"]["model"], len(whole["tokens"])) == (models[0], 3)
