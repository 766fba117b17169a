"""The app as people start it, with the bundled model, in a real browser and through gradio_client."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from gradio_client import Client
from playwright.sync_api import Page, expect

from analysis.ramp import depth_colour
from flexidepth.trace import Trace
from tests.ui.conftest import OpenPage, Server
from tests.ui.steps import SECONDS, button, painted, run, run_to_end, set_number, status, tokens, view

pytestmark = [pytest.mark.ui, pytest.mark.slow, pytest.mark.timeout(600)]
QUESTION = "Explain in three sentences why the sky is blue."


@pytest.fixture
def real_page(open_page: OpenPage, real_app: Server) -> Page:
    return open_page(real_app.url)


def download(page: Page, name: str) -> Path:
    with page.expect_download() as saving:
        button(page, name).click()
    return saving.value.path()


def test_a_preset_streams_and_shows_what_the_trace_says(real_page: Page, real_app: Server) -> None:
    real_page.get_by_role("radio", name="Summarize").check(force=True)
    expect(real_page.get_by_role("textbox", name="Prompt")).to_have_value(re.compile("^Please summarize"))
    button(real_page, "Run").click()
    expect(tokens(real_page).nth(3)).to_be_visible(timeout=60 * SECONDS)
    expect(status(real_page)).to_contain_text("Running")  # tokens are there before the run has ended
    expect(view(real_page).locator(".fdx-ended")).to_be_visible(timeout=180 * SECONDS)
    expect(button(real_page, "Run")).to_be_enabled(timeout=60 * SECONDS)
    trace = Trace.from_lines(download(real_page, "Trace (.jsonl)").read_text(encoding="utf-8").splitlines())
    header = trace.header
    shown = painted(real_page)
    assert [token["layers"] for token in shown] == [step.layers_used for step in trace.steps]
    for token in shown:
        assert token["background"] == depth_colour(token["layers"], header.always_on, header.num_layers)
    assert len({token["background"] for token in shown}) >= 2
    assert (
        view(real_page).get_by_role("group", name="Generated tokens").evaluate("node => node.textContent")
        == trace.text
    )
    expect(view(real_page).locator("canvas")).to_have_attribute("data-tokens", str(len(trace.steps)))
    shares = view(real_page).locator("rect[data-share]").evaluate_all("all => all.map(bar => +bar.dataset.share)")
    assert shares == pytest.approx(trace.summary()["per_layer_usage"], abs=1e-4)
    expect(real_page.locator("#fdx-gates-figure .js-plotly-plot")).to_be_visible(timeout=30 * SECONDS)
    assert psutil.Process(real_app.process.pid).memory_info().rss < 2 * 1024**3


def test_stop_stops_the_model(real_page: Page, real_app: Server) -> None:
    real_page.locator("#fdx-settings").get_by_role("button", name="Settings").click()
    set_number(real_page.get_by_role("spinbutton", name="New tokens at most"), "1000")
    real_page.get_by_role("checkbox", name="Chat template").uncheck()
    run(real_page, "Once upon a time")
    expect(tokens(real_page).nth(5)).to_be_visible(timeout=60 * SECONDS)
    button(real_page, "Stop").click()
    expect(status(real_page)).to_contain_text("Stopped early", timeout=30 * SECONDS)
    expect(real_page.locator("#fdx-gates-figure .js-plotly-plot")).to_be_visible(timeout=30 * SECONDS)
    process = psutil.Process(real_app.process.pid)
    before = process.cpu_times().user
    real_page.wait_for_timeout(2000)  # a model at work would use all of this time
    assert process.cpu_times().user - before < 1.0
    assert tokens(real_page).count() < 500


def test_over_long_prompts_and_empty_ones_get_a_message(real_page: Page) -> None:
    run(real_page, "word " * 20_000)
    expect(real_page.get_by_text("tokens", exact=False).filter(has_text="shorten").first).to_be_visible(
        timeout=60 * SECONDS
    )
    expect(button(real_page, "Run")).to_be_enabled()
    run(real_page, " ")
    expect(real_page.locator("#fdx-prompt").get_by_text("Write a prompt first")).to_be_visible()
    run_to_end(real_page, "What is the capital of France?", 120)
    assert tokens(real_page).count() > 0


def test_two_visitors_at_once(open_page: OpenPage, real_app: Server) -> None:
    one, two = open_page(real_app.url), open_page(real_app.url)
    run(one, "Name two rivers.")
    run(two, "Name two colours.")
    for page in (one, two):
        expect(view(page).locator(".fdx-ended")).to_be_visible(timeout=240 * SECONDS)
    traces = []
    for page in (one, two):
        expect(button(page, "Run")).to_be_enabled(timeout=60 * SECONDS)
        trace = Trace.from_lines(download(page, "Trace (.jsonl)").read_text(encoding="utf-8").splitlines())
        assert (
            view(page).get_by_role("group", name="Generated tokens").evaluate("node => node.textContent") == trace.text
        )
        traces.append(trace)
    assert [trace.header.prompt for trace in traces] == ["Name two rivers.", "Name two colours."]
    assert traces[0].header.run_id != traces[1].header.run_id


def test_endpoints_agree_with_each_other(real_app: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    client = Client(real_app.url, analytics_enabled=False, verbose=False)
    yields = list(client.submit(QUESTION, max_new_tokens=24, api_name="/stream"))
    assert len(yields) >= 5
    for earlier, later in pairwise(yields):
        assert later.startswith(earlier)
    streamed = Trace.from_lines(yields[-1].splitlines())
    whole = client.predict(QUESTION, max_new_tokens=24, api_name="/trace")
    assert [token["token_id"] for token in whole["tokens"]] == [step.token_id for step in streamed.steps]
    assert [token["executed"] for token in whole["tokens"]] == [list(step.executed) for step in streamed.steps]
    assert whole["trace"]["prompt"] == QUESTION
    assert whole["summary"]["mean_layers_used"] == streamed.summary()["mean_layers_used"]
