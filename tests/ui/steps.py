"""What a visitor does on the page, in the words of the tests."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

SECONDS = 1000


def fill(page: Page, prompt: str) -> None:
    page.get_by_role("textbox", name="Prompt").fill(prompt)


def run(page: Page, prompt: str) -> None:
    fill(page, prompt)
    button(page, "Run").click()


def run_to_end(page: Page, prompt: str, seconds: float = 20) -> None:
    run(page, prompt)
    expect(view(page).locator(".fdx-ended")).to_be_visible(timeout=seconds * SECONDS)
    expect(button(page, "Run")).to_be_enabled(timeout=seconds * SECONDS)


def set_number(field: Locator, value: str) -> None:
    """Types a number and leaves the field. Gradio fills a field in once more shortly after it is put on the page, as
    in a section just opened, and no visitor types that fast: here it is typed again until it stays."""
    for _ in range(20):
        expect(field).to_be_editable(timeout=20 * SECONDS)
        field.fill(value)
        field.page.wait_for_timeout(200)
        if field.input_value() == value:
            break
    field.press("Tab")
    expect(field).to_have_value(value)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def view(page: Page) -> Locator:
    return page.locator("#fdx-view")


def status(page: Page) -> Locator:
    return view(page).get_by_role("status")


def tokens(page: Page) -> Locator:
    return view(page).get_by_role("group", name="Generated tokens").get_by_role("button")


def card(page: Page) -> Locator:
    return view(page).get_by_role("region", name="Token details")


def painted(page: Page) -> list[dict[str, Any]]:
    """Every token as the browser shows it: text, layers, background and text colour as #rrggbb."""
    return tokens(page).evaluate_all(
        """nodes => nodes.map(node => {
          const style = getComputedStyle(node);
          const two = x => (+x).toString(16).padStart(2, '0');
          const hex = colour => '#' + colour.match(/\\d+/g).slice(0, 3).map(two).join('');
          return {text: node.textContent, layers: +node.dataset.layers, label: node.getAttribute('aria-label'),
                  background: hex(style.backgroundColor), ink: hex(style.color)};
        })"""
    )
