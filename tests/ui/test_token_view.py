"""The token view in a real browser: colours, text, card, keys, map, bowl; over the stand-in model."""

from __future__ import annotations

import json
import math
import re

import pytest
from playwright.sync_api import Page, expect

from analysis.glyphs import visible
from analysis.ramp import contrast, depth_colour, ink
from tests.ui.conftest import OpenPage, Server
from tests.ui.sample_traces import HOSTILE, NUM_LAYERS, ROUTED, WORDS, make_steps
from tests.ui.steps import SECONDS, button, card, painted, run, run_to_end, status, tokens, view

pytestmark = pytest.mark.ui
ALWAYS_ON = NUM_LAYERS - len(ROUTED)
STEPS = make_steps()

QUIET_TEXT = (
    ".fdx-status *, .fdx-legend-caption, .fdx-hint, .fdx-title, .fdx-keys, .fdx-fact *, .fdx-card-id, .fdx-words,"
    " .fdx-cell-gate, .fdx-cell-layer, .fdx-top-text"
)
COLUMN = 14  # width of a token in the map of a short answer
PIXEL = """(node, {x, y}) => {
  const scale = node.width / node.clientWidth;
  const [...values] = node.getContext('2d').getImageData(x * scale, y * scale, 1, 1).data;
  return '#' + values.slice(0, 3).map(value => value.toString(16).padStart(2, '0')).join('');
}"""
# The lowest contrast ratio between the colour of a text and the first opaque ground below it.
LOWEST_CONTRAST = """(root, selector) => {
  const linear = x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = node => {
    const colour = node ? getComputedStyle(node).backgroundColor : 'rgb(255, 255, 255)';
    return colour.startsWith('rgba') && colour.endsWith(' 0)') ? ground(node.parentElement) : light(colour);
  };
  const ratio = node => {
    const [low, high] = [light(getComputedStyle(node).color), ground(node)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  return Math.min(...[...root.querySelectorAll(selector)].map(ratio));
}"""


def test_every_token_has_the_colour_of_its_layers(page: Page) -> None:
    run_to_end(page, "words")
    shown = painted(page)
    assert [token["layers"] for token in shown] == [step.layers_used for step in STEPS]
    for token in shown:
        colour = depth_colour(token["layers"], ALWAYS_ON, NUM_LAYERS)
        assert (token["background"], token["ink"]) == (colour, ink(colour))
        assert contrast(token["background"], token["ink"]) >= 4.5
    assert len({token["background"] for token in shown}) >= 5


def test_the_legend_names_every_depth_and_counts_tokens(page: Page) -> None:
    run_to_end(page, "words")
    legend = view(page).get_by_role(
        "img", name=f"Legend: light to dark blue for {ALWAYS_ON} to {NUM_LAYERS} layers used"
    )
    depths = [str(depth) for depth in range(ALWAYS_ON, NUM_LAYERS + 1)]
    expect(legend.locator(".fdx-swatch")).to_have_text(depths)
    used = [step.layers_used for step in STEPS]
    titles = legend.locator(".fdx-legend-cell").evaluate_all("cells => cells.map(cell => cell.title)")
    assert [int(title.split(": ")[1].split()[0]) for title in titles] == [used.count(int(depth)) for depth in depths]


def test_text_reads_and_copies_as_the_model_wrote_it(page: Page) -> None:
    run_to_end(page, "words")
    text = "".join(WORDS)
    stream = view(page).get_by_role("group", name="Generated tokens")
    assert stream.evaluate("node => node.textContent") == text
    copied = stream.evaluate(
        "node => { const all = document.createRange(); all.selectNodeContents(node); const selection = getSelection();"
        " selection.removeAllRanges(); selection.addRange(all); return String(selection); }"
    )
    assert copied == text


def test_white_space_and_the_end_are_visible(page: Page) -> None:
    run_to_end(page, "words")
    labels = (
        tokens(page)
        .nth(WORDS.index("\n\n"))
        .locator(".fdx-glyph")
        .evaluate_all("all => all.map(n => n.dataset.label)")
    )
    assert labels == ["↵", "↵"]
    assert tokens(page).nth(WORDS.index("  ")).locator(".fdx-glyph").get_attribute("data-label") == "␣␣"
    assert tokens(page).last.locator(".fdx-glyph").get_attribute("data-label") == "end"


def test_hostile_tokens_stay_inert_and_visible(page: Page) -> None:
    run_to_end(page, "hostile")
    steps = make_steps(HOSTILE)
    stream = view(page).get_by_role("group", name="Generated tokens")
    # Compared inside the browser: half characters do not survive the way out.
    same = stream.evaluate("(node, text) => node.textContent === JSON.parse(text)", json.dumps("".join(HOSTILE)))
    assert same
    assert page.evaluate("[typeof window.__hit, document.body.classList.contains('hit')]") == ["undefined", False]
    assert stream.locator("img, script, h1, b").count() == 0
    for number, (step, token) in enumerate(zip(steps, painted(page), strict=True), start=1):
        name = f"\u2018{visible(step.text)}\u2019" if step.text else "end of turn"
        assert token["label"] == f"token {number}, {name}, {step.layers_used} of {NUM_LAYERS} layers"
    widths = tokens(page).evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().width)")
    assert min(widths) > 3  # nothing invisible
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    spaces = tokens(page).nth(HOSTILE.index(" " * 10_000))
    assert spaces.locator(".fdx-glyph").get_attribute("data-label") == "␣\u00d710000"


def test_hostile_tokens_are_inert_in_card_and_figures(page: Page) -> None:
    run_to_end(page, "hostile")
    expect(page.locator("#fdx-gates-figure .js-plotly-plot .xtick text").first).to_be_visible()
    for place in (0, 1, 2, 3, 6, 12, 17):
        tokens(page).nth(place).hover()
        text = card(page).locator(".fdx-card-token").text_content()
        assert text == visible(HOSTILE[place])
    assert card(page).locator("img, script, i").count() == 0
    expect(card(page)).to_contain_text("<i>other</i>")
    ticks = page.locator("#fdx-gates-figure .js-plotly-plot .xtick text").all_text_contents()
    assert ticks[0].startswith("<img")
    assert any(tick.startswith("${wind") for tick in ticks)
    assert page.evaluate("typeof window.__hit") == "undefined"


def test_hostile_prompts_are_inert(page: Page) -> None:
    for prompt in ("<img src=x onerror='window.__hit=1'>", "${window.__hit=1}{{value}}", "\u202eabc\u0007", "=1+1"):
        run_to_end(page, prompt)
        expect(tokens(page)).to_have_count(len(WORDS))
    assert page.evaluate("typeof window.__hit") == "undefined"


def test_hovering_shows_everything_about_a_token(page: Page) -> None:
    run_to_end(page, "words")
    place = 3
    step = STEPS[place]
    expect(card(page)).to_be_hidden()
    tokens(page).nth(place).hover()
    expect(card(page)).to_contain_text(f"token {place + 1} · id {step.token_id}")
    assert step.logprob is not None
    assert step.entropy is not None
    facts = card(page).locator(".fdx-fact dd")
    expect(facts).to_have_text(
        [
            f"{step.layers_used} of {NUM_LAYERS}",
            f"{math.exp(step.logprob) * 100:.1f} %",
            f"{step.entropy:.2f} nats",
            f"{step.seconds * 1000:.0f} ms",
        ]
    )
    cells = card(page).locator(".fdx-cell")
    shown = cells.evaluate_all("all => all.map(cell => [cell.title, cell.classList.contains('fdx-ran')])")
    for layer, gate, executed, (title, ran) in zip(ROUTED, step.gates, step.executed, shown, strict=True):
        assert title == f"layer {layer + 1} {'ran' if executed else 'skipped'}, gate {gate:.3f}"
        assert ran == executed
    expect(card(page).locator(".fdx-top li")).to_have_count(3)
    expect(card(page).locator(".fdx-chosen")).to_contain_text(f"{math.exp(step.logprob) * 100:.1f} %")


def test_click_pins_and_escape_frees(page: Page) -> None:
    run_to_end(page, "words")
    tokens(page).nth(3).click()
    expect(card(page)).to_contain_text("pinned")
    expect(tokens(page).nth(3)).to_have_attribute("aria-pressed", "true")
    tokens(page).nth(5).hover()
    expect(card(page)).to_contain_text("token 4 ·")
    page.mouse.move(5, 5)
    expect(card(page)).to_contain_text("token 4 ·")
    page.keyboard.press("Escape")
    expect(card(page)).to_be_hidden()
    expect(tokens(page).nth(3)).to_have_attribute("aria-pressed", "false")


def test_keyboard_reaches_every_token(page: Page) -> None:
    run_to_end(page, "words")
    expect(view(page).locator(".fdx-token[tabindex='0']")).to_have_count(1)
    page.get_by_role("checkbox", name="Layer numbers").focus()
    page.keyboard.press("Tab")
    expect(tokens(page).first).to_be_focused()
    expect(card(page)).to_contain_text("token 1 ·")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tokens(page).nth(2)).to_be_focused()
    expect(card(page)).to_contain_text(f"{STEPS[2].layers_used} of {NUM_LAYERS}")
    page.keyboard.press("Enter")
    expect(card(page)).to_contain_text("pinned")
    page.keyboard.press("ArrowRight")  # the pin travels
    expect(card(page)).to_contain_text("token 4 ·")
    expect(card(page)).to_contain_text("pinned")
    page.keyboard.press("Escape")
    expect(card(page)).to_be_hidden()
    page.keyboard.press("End")
    expect(tokens(page).last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")  # the next line: the first token after the break
    expect(tokens(page).nth(WORDS.index("Then"))).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(tokens(page).first).to_be_focused()
    expect(view(page).locator(".fdx-token[tabindex='0']")).to_have_count(1)


def test_map_cells_are_the_executed_layers(page: Page) -> None:
    run_to_end(page, "words")
    canvas = view(page).locator("canvas")
    expect(canvas).to_have_attribute("data-tokens", str(len(STEPS)))
    readout = view(page).locator(".fdx-map-readout")
    skipped = canvas.evaluate("node => getComputedStyle(node).getPropertyValue('--fdx-skipped').trim()")
    seen: set[tuple[int, int]] = set()
    for y in range(54, 54 + 12 * len(ROUTED), 12):
        for place in (0, 7, len(STEPS) - 1):
            at = {"x": place * COLUMN + 6, "y": y + 5}
            canvas.hover(position=at)
            found = re.fullmatch(r"token (\d+) · layer (\d+) · (ran|skipped), gate ([\d.]+)", readout.inner_text())
            assert found is not None
            step, layer = STEPS[place], int(found[2])
            executed = step.executed[ROUTED.index(layer - 1)]
            assert found[1] == str(place + 1)
            assert found[3] == ("ran" if executed else "skipped")
            assert found[4] == f"{step.gates[ROUTED.index(layer - 1)]:.2f}"
            assert (canvas.evaluate(PIXEL, at) == skipped) == (not executed)
            seen.add((place, layer))
    assert len(seen) == 3 * len(ROUTED)


def test_map_and_text_share_the_selection(page: Page) -> None:
    run_to_end(page, "words")
    canvas = view(page).locator("canvas")
    marker = view(page).locator(".fdx-map-marker")
    expect(marker).to_be_hidden()
    canvas.hover(position={"x": 5 * COLUMN + 6, "y": 90})
    expect(tokens(page).nth(5)).to_have_class(re.compile("fdx-active"))
    expect(card(page)).to_contain_text("token 6 ·")
    tokens(page).nth(9).hover()
    expect(marker).to_be_visible()
    assert marker.evaluate("node => Math.round(parseFloat(node.style.left))") == 9 * COLUMN - 1
    canvas.click(position={"x": 2 * COLUMN + 6, "y": 90})
    expect(tokens(page).nth(2)).to_have_attribute("aria-pressed", "true")


def test_bowl_shows_the_share_of_every_layer(page: Page) -> None:
    run_to_end(page, "words")
    bars = view(page).locator(".fdx-bowl-svg rect[data-share]")
    expect(bars).to_have_count(NUM_LAYERS)
    shown = bars.evaluate_all(
        "all => all.map(bar => [+bar.dataset.layer, +bar.dataset.share, +bar.getAttribute('height'),"
        " bar.getAttribute('class')])"
    )
    full = shown[0][2]
    for number, share, height, kind in shown:
        layer = number - 1
        expected = sum(step.executed[ROUTED.index(layer)] for step in STEPS) / len(STEPS) if layer in ROUTED else 1.0
        assert share == pytest.approx(expected, abs=1e-4)
        assert height == pytest.approx(full * expected, abs=0.02)
        assert kind == ("fdx-bar" if layer in ROUTED else "fdx-bar-always")


def test_status_tells_the_numbers_and_why_it_ended(page: Page) -> None:
    run_to_end(page, "words")
    mean = sum(step.layers_used for step in STEPS) / len(STEPS)
    rate = (len(STEPS) - 1) / sum(step.seconds for step in STEPS[1:])
    expect(status(page)).to_contain_text("Finished")
    expect(status(page)).to_contain_text(f"{len(STEPS)} tokens")
    expect(status(page)).to_contain_text(f"{rate:.1f} tokens/s")
    expect(status(page)).to_contain_text(f"{mean:.1f} of {NUM_LAYERS} layers on average")


def test_a_new_run_replaces_the_old_one(page: Page) -> None:
    run_to_end(page, "hostile")
    run_to_end(page, "words")
    expect(tokens(page)).to_have_count(len(WORDS))
    expect(view(page).locator("canvas")).to_have_attribute("data-tokens", str(len(WORDS)))


def test_layer_numbers_can_be_shown(page: Page) -> None:
    run_to_end(page, "words")
    after = "node => getComputedStyle(node, '::before').content"
    assert tokens(page).first.evaluate(after) == "none"
    page.get_by_role("checkbox", name="Layer numbers").check()
    assert tokens(page).first.evaluate(after) == f'"{STEPS[0].layers_used}"'


def test_long_answers_scroll_only_for_readers_at_the_end(page: Page) -> None:
    stream = view(page).get_by_role("group", name="Generated tokens")
    at_end = "node => node.scrollHeight - node.scrollTop - node.clientHeight < 30"
    run(page, "slow and steady words that fill the line soon enough")
    expect(tokens(page).nth(70)).to_be_attached(timeout=20 * SECONDS)
    assert stream.evaluate(at_end)
    assert stream.evaluate("node => node.scrollTop > 0")
    stream.evaluate("node => { node.scrollTop = 0; }")
    expect(tokens(page).nth(100)).to_be_attached(timeout=20 * SECONDS)
    assert stream.evaluate("node => node.scrollTop") == 0
    button(page, "Stop").click()
    expect(status(page)).to_contain_text("Stopped early")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_narrow_pages_fit_and_read_well(open_page: OpenPage, fake_app: Server, theme: str) -> None:
    page = open_page(fake_app.url, theme=theme, width=320, height=700)
    run_to_end(page, "words")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    tokens(page).nth(3).click()
    box = card(page).bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 320
    for token in painted(page):
        assert contrast(token["background"], token["ink"]) >= 4.5
    assert view(page).evaluate(LOWEST_CONTRAST, QUIET_TEXT) >= 4.5


def test_motion_stops_for_those_who_ask(page: Page) -> None:
    run(page, "slow dot")
    dot = view(page).locator(".fdx-state")
    expect(status(page)).to_contain_text("Running")
    assert dot.evaluate("node => getComputedStyle(node, '::before').animationName") == "none"
    button(page, "Stop").click()
    expect(button(page, "Run")).to_be_enabled()
