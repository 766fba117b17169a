"""Links in a real browser: made from the page, opened by another visitor, broken ones said."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import OpenPage, Server
from tests.ui.steps import SECONDS, fill, set_number

pytestmark = pytest.mark.ui


def open_settings(page: Page) -> None:
    page.get_by_role("button", name="Settings", exact=False).first.click()


def test_a_link_brings_prompt_task_and_settings_to_another_visitor(
    page: Page, open_page: OpenPage, fake_app: Server
) -> None:
    page.get_by_role("radio", name="Summarize").check(force=True)
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(re.compile("^Please summarize"))
    fill(page, "two\nlines & <b>signs</b> ${x} ß")
    open_settings(page)
    set_number(page.get_by_role("spinbutton", name="Seed"), "41")
    page.get_by_role("checkbox", name="Chat template").uncheck()
    page.get_by_role("button", name="Link to this prompt").click()
    link = page.locator("#fdx-link textarea")
    expect(link).to_have_value(re.compile("^http"), timeout=10 * SECONDS)
    address = link.input_value()
    held = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert held["seed"] == "41"
    assert held["chat"] == "0"
    assert held["task"] == "summarize"
    other = open_page(address)
    prompt = other.get_by_role("textbox", name="Prompt")
    expect(prompt).to_have_value("two\nlines & <b>signs</b> ${x} ß", timeout=20 * SECONDS)
    expect(other.get_by_role("radio", name="Summarize")).to_be_checked()
    open_settings(other)
    expect(other.get_by_role("spinbutton", name="Seed")).to_have_value("41")
    expect(other.get_by_role("checkbox", name="Chat template")).not_to_be_checked()


def test_a_broken_link_says_what_is_wrong_and_uses_the_rest(open_page: OpenPage, fake_app: Server) -> None:
    page = open_page(f"{fake_app.url}?prompt=hello&seed=minus&task=add")
    expect(page.get_by_text("its seed is no number")).to_be_visible(timeout=20 * SECONDS)
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value("hello")
    expect(page.get_by_role("radio", name="Add")).to_be_checked()
