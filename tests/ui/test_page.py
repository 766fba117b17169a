"""The page in a real browser, over the stand-in model: runs, Stop, messages, tasks, figures, downloads, visitors."""

from __future__ import annotations

import csv
import io
import re
import statistics
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analysis.ramp import depth_colour
from analysis.stats import token_table, usage_table
from analysis.tasks import TASKS, number_lists, passages, task_named
from flexidepth.trace import Trace
from tests.ui.conftest import OpenPage, Server
from tests.ui.sample_traces import NUM_LAYERS, ROUTED, WORDS, make_steps
from tests.ui.steps import SECONDS, button, fill, run, run_to_end, set_number, status, tokens, view

pytestmark = pytest.mark.ui


def test_the_page_says_what_it_is(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text("FlexiDepth Viewer")
    expect(page.get_by_role("heading", level=1)).to_contain_text("toy <b>model</b>")
    expect(button(page, "Stop")).to_be_disabled()
    expect(status(page)).to_have_text("Ready")
    expect(page.get_by_role("slider", name="Temperature")).to_be_hidden()
    open_settings(page)
    expect(page.get_by_role("slider", name="Temperature")).to_be_visible()


def test_tasks_fill_in_the_prompt(page: Page) -> None:
    prompt = page.get_by_role("textbox", name="Prompt")
    for task in TASKS[1:]:
        page.get_by_role("radio", name=task.label).check(force=True)
        first = passages()[0].text if task.kind == "language" else number_lists()[0].text
        expect(prompt).to_have_value(task.instruction + first)
    page.get_by_role("radio", name="Summarize").check(force=True)
    page.get_by_role("combobox", name="Example").click()
    page.get_by_role("option", name=passages()[2].title).click()
    expect(prompt).to_have_value(task_named("summarize").prompt(passages()[2]))


def test_enter_runs_and_shift_enter_breaks_the_line(page: Page) -> None:
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.fill("words")
    prompt.press("End")
    prompt.press("Shift+Enter")
    prompt.press_sequentially("more")
    expect(prompt).to_have_value("words\nmore")
    expect(tokens(page)).to_have_count(0)
    prompt.press("Enter")
    expect(tokens(page)).to_have_count(len(WORDS))


def test_the_whole_page_works_by_keyboard(page: Page) -> None:
    page.get_by_role("radio", name="Free chat").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(re.compile("^Please copy"))
    page.get_by_role("textbox", name="Prompt").fill("words")
    page.keyboard.press("Tab")
    expect(button(page, "Run")).to_be_focused()
    page.keyboard.press("Enter")
    expect(tokens(page)).to_have_count(len(WORDS))


def test_stop_stops_the_work_and_keeps_what_came(page: Page, fake_app: Server) -> None:
    run(page, "slow brook")
    expect(button(page, "Stop")).to_be_enabled()
    expect(button(page, "Run")).to_be_disabled()
    expect(tokens(page).nth(10)).to_be_visible()
    button(page, "Stop").click()
    closed = int(fake_app.wait_for_line("closed brook after").split()[-1])
    assert 10 <= closed < 100
    expect(status(page)).to_contain_text("Stopped early")
    expect(button(page, "Run")).to_be_enabled()
    expect(button(page, "Stop")).to_be_disabled()
    expect(page.locator("#fdx-gates-figure .js-plotly-plot")).to_be_visible()
    trace = Trace.from_lines(download(page, "Trace (.jsonl)").splitlines())
    assert 10 <= len(trace.steps) <= closed + 1
    assert {step.text for step in trace.steps} == {" brook"}
    expect(tokens(page)).to_have_count(len(trace.steps))
    assert trace.summary()["stop"] is None
    run_to_end(page, "words")
    expect(tokens(page)).to_have_count(len(WORDS))


def test_leaving_the_page_stops_the_work(open_page: OpenPage, fake_app: Server) -> None:
    page = open_page(fake_app.url)
    run(page, "slow goodbye")
    expect(tokens(page).nth(3)).to_be_visible()
    page.close()
    assert int(fake_app.wait_for_line("closed goodbye after", 30).split()[-1]) < 400


def test_empty_prompts_get_a_message(page: Page) -> None:
    for empty in ("", "   \n  "):
        run(page, empty)
        expect(page.locator("#fdx-prompt").get_by_text("Write a prompt first")).to_be_visible()
        expect(button(page, "Run")).to_be_enabled()
    run_to_end(page, "words")
    expect(tokens(page)).to_have_count(len(WORDS))


def test_refused_requests_get_their_reason(page: Page) -> None:
    run(page, "refuse")
    expect(page.get_by_text("the prompt has 9000 tokens and the model takes 8192: shorten it")).to_be_visible()
    expect(button(page, "Run")).to_be_enabled()
    expect(button(page, "Stop")).to_be_disabled()
    run_to_end(page, "words")
    expect(tokens(page)).to_have_count(len(WORDS))


def test_bad_settings_get_a_message(page: Page) -> None:
    open_settings(page)
    seed = page.get_by_label("Seed")
    set_number(seed, "-4")
    run(page, "words")
    expect(page.locator("#fdx-settings").get_by_text("The seed is a whole number from 0 up.")).to_be_visible()
    expect(button(page, "Run")).to_be_enabled()
    set_number(seed, "0")
    set_number(page.get_by_role("spinbutton", name="Temperature"), "2")
    run(page, "words")
    expect(page.get_by_text("temperature must lie between 0 and 1.9")).to_be_visible()
    set_number(page.get_by_role("spinbutton", name="Temperature"), "0")
    run_to_end(page, "words")
    expect(tokens(page)).to_have_count(len(WORDS))


def test_settings_reach_the_run(page: Page) -> None:
    open_settings(page)
    set_number(page.get_by_role("spinbutton", name="New tokens at most"), "7")
    set_number(page.get_by_label("Seed"), "3")
    run_to_end(page, "words")
    expect(status(page)).to_contain_text("Stopped at the token limit")
    layers = tokens(page).evaluate_all("all => all.map(node => +node.dataset.layers)")
    assert layers == [step.layers_used for step in make_steps(WORDS[:7], seed=3)]


def test_a_broken_run_keeps_the_page_usable(page: Page, fake_app: Server) -> None:
    run(page, "fail")
    expect(page.get_by_text("The run broke off inside the model (RuntimeError)")).to_be_visible()
    expect(button(page, "Run")).to_be_enabled()
    expect(tokens(page)).to_have_count(5)
    run_to_end(page, "words")
    expect(tokens(page)).to_have_count(len(WORDS))
    fake_app.drain()
    assert not [line for line in fake_app.lines if "secret words" in line]


def test_two_visitors_both_finish_and_see_only_their_own(open_page: OpenPage, fake_app: Server) -> None:
    one, two = open_page(fake_app.url), open_page(fake_app.url)
    run(one, "slow alpha")
    expect(tokens(one).nth(2)).to_be_visible()
    run(two, "slow beta")
    expect(status(two)).to_contain_text("In line: one run is before yours")
    expect(tokens(two)).to_have_count(0)
    expect(tokens(one).nth(20)).to_be_visible()
    button(one, "Stop").click()
    expect(tokens(two).nth(5)).to_be_visible()
    run(one, "words")
    expect(status(one)).to_contain_text("In line")
    button(two, "Stop").click()
    expect(tokens(one)).to_have_count(len(WORDS))
    assert set(tokens(two).all_text_contents()) == {"beta"}
    texts = [(text[1:] if re.match(r" \S", text) else text) for text in WORDS]
    assert tokens(one).all_text_contents() == texts


def test_giving_up_a_place_in_line_lets_the_next_one_work(open_page: OpenPage, fake_app: Server) -> None:
    one, two, three = (open_page(fake_app.url) for _ in range(3))
    run(one, "slow alpha")
    expect(tokens(one).nth(2)).to_be_visible()
    run(two, "slow beta")
    expect(status(two)).to_contain_text("one run is before yours")
    run(three, "words")
    expect(status(three)).to_contain_text("2 runs are before yours")
    button(two, "Stop").click()
    expect(status(three)).to_contain_text("one run is before yours")
    button(one, "Stop").click()
    expect(tokens(three)).to_have_count(len(WORDS))


def test_downloads_hold_the_numbers_of_the_page(page: Page, chromium: Browser, tmp_path: Path) -> None:
    run_to_end(page, "words <b>of</b> mine")
    steps = make_steps()
    trace = Trace.from_lines(download(page, "Trace (.jsonl)").splitlines())
    assert trace.steps == steps
    assert trace.header.prompt == "words <b>of</b> mine"
    rows = list(csv.DictReader(io.StringIO(download(page, "Table (.csv)"))))
    table = token_table(trace)
    assert [int(row["layers_used"]) for row in rows] == table["layers_used"].tolist()
    for layer in (layer + 1 for layer in ROUTED):
        assert [float(row[f"gate_{layer}"]) for row in rows] == pytest.approx(table[f"gate_{layer}"].tolist())
        assert [row[f"run_{layer}"] == "True" for row in rows] == table[f"run_{layer}"].tolist()
    assert rows[WORDS.index("=1")]["text"] == "'=1"
    saved = tmp_path / "run.html"
    saved.write_text(download(page, "Coloured text (.html)"), encoding="utf-8")
    opened = chromium.new_page()
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(saved.as_uri())
    shown = opened.locator(".token").evaluate_all(
        "all => all.map(n => [n.dataset.layers, getComputedStyle(n).backgroundColor])"
    )
    wanted = []
    for step in steps:
        colour = depth_colour(step.layers_used, NUM_LAYERS - len(ROUTED), NUM_LAYERS)
        rgb = ", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        wanted.append([str(step.layers_used), f"rgb({rgb})"])
    assert shown == wanted
    expect(opened.get_by_text("words <b>of</b> mine")).to_be_visible()
    assert opened.locator("script").count() == 0
    assert requests == [saved.as_uri()]
    opened.close()


def test_figures_hold_the_numbers_and_save_as_svg_and_png(page: Page) -> None:
    run_to_end(page, "words")
    gates = page.locator("#fdx-gates-figure .js-plotly-plot")
    bowl = page.locator("#fdx-bowl-figure .js-plotly-plot")
    expect(gates.get_by_role("button", name="Download plot")).to_be_visible(timeout=20 * SECONDS)
    steps = make_steps()
    values = gates.evaluate("node => Array.from(node.calcdata[0][0].z, row => Array.from(row))")
    for place, row in enumerate(values):
        assert row == pytest.approx([step.gates[place] for step in steps], abs=1e-6)
    shares = bowl.evaluate("node => node._fullData.flatMap(part => Array.from(part.y))")
    table = usage_table(Trace.from_lines(download(page, "Trace (.jsonl)").splitlines()))
    assert shares == pytest.approx((table["share"] * 100).tolist())
    with page.expect_download() as saving:
        gates.get_by_role("button", name="Download plot").click()
    assert saving.value.suggested_filename == "flexidepth-gates.svg"
    assert saving.value.path().read_text(encoding="utf-8").startswith("<svg")
    for name, file in (("Gate map", "flexidepth-gates"), ("Bowl", "flexidepth-bowl")):
        for kind, start in (("png", b"\x89PNG"), ("svg", b"<svg")):
            with page.expect_download() as saving:
                button(page, f"{name} (.{kind})").click()
            assert saving.value.suggested_filename == f"{file}.{kind}"
            assert saving.value.path().read_bytes().startswith(start)
    caption = page.locator("#fdx-results .fdx-caption textarea").input_value()
    mean = statistics.fmean(step.layers_used for step in steps)
    assert f"{len(steps)} tokens, greedy, {mean:.2f} of " in caption


@pytest.mark.parametrize(("theme", "paper"), [("light", "#ffffff"), ("dark", "#14181f")])
def test_figures_follow_the_theme(open_page: OpenPage, fake_app: Server, theme: str, paper: str) -> None:
    page = open_page(fake_app.url, theme=theme)
    run_to_end(page, "words")
    for name in ("gates", "bowl"):
        figure = page.locator(f"#fdx-{name}-figure .js-plotly-plot")
        expect(figure).to_be_visible(timeout=20 * SECONDS)
        assert figure.evaluate("node => node.layout.paper_bgcolor") == paper


def test_long_runs_stay_quick(page: Page) -> None:
    open_settings(page)
    set_number(page.get_by_role("spinbutton", name="New tokens at most"), "600")
    run_to_end(page, "long", 60)
    expect(tokens(page)).to_have_count(600)
    canvas = view(page).locator("canvas")
    expect(canvas).to_have_attribute("data-tokens", "600")
    assert canvas.evaluate("node => node.clientWidth") >= 3 * 600


def test_exports_of_two_visitors_have_addresses_nobody_can_guess(open_page: OpenPage, fake_app: Server) -> None:
    addresses = []
    for _ in range(2):
        page = open_page(fake_app.url)
        run_to_end(page, "words")
        with page.expect_download() as saving:
            button(page, "Trace (.jsonl)").click()
        addresses.append(saving.value.url)
    tokens_of = [re.search(r"/([\w-]{32})/flexidepth-", address) for address in addresses]
    assert all(tokens_of)
    assert addresses[0] != addresses[1]


def test_nothing_typed_is_printed(page: Page, fake_app: Server) -> None:
    fill(page, "a private sentence nobody should find")
    button(page, "Run").click()
    expect(tokens(page)).to_have_count(len(WORDS))
    fake_app.drain()
    assert not [line for line in fake_app.lines if "private sentence" in line]


def open_settings(page: Page) -> None:
    page.locator("#fdx-settings").get_by_role("button", name="Settings").click()


def download(page: Page, name: str) -> str:
    with page.expect_download() as saving:
        button(page, name).click()
    return saving.value.path().read_text(encoding="utf-8")
