"""A browser, the page over a stand-in model, and the page over the real one. Skips what the machine cannot run."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Server:
    """An app in its own process, with the lines it has printed."""

    url: str
    process: subprocess.Popen[str]
    started_in: float
    _fresh: queue.SimpleQueue[str]
    lines: list[str] = field(default_factory=list)

    def wait_for_line(self, start: str, seconds: float = 20) -> str:
        """The next line that starts so; fails when none comes."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._fresh.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line starts with {start!r}; the last ones: {self.lines[-5:]}") from None
            self.lines.append(line)
            if line.startswith(start):
                return line

    def drain(self) -> None:
        """Takes in everything printed so far."""
        while not self._fresh.empty():
            self.lines.append(self._fresh.get())


@contextmanager
def serve(command: list[str], environment: dict[str, str], until: str, seconds: float) -> Iterator[Server]:
    """Runs an app until its URL is printed, and ends it afterwards."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **environment}
    begun = time.monotonic()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    fresh: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            fresh.put(line.rstrip())

    threading.Thread(target=read, daemon=True).start()
    server = Server("", process, 0.0, fresh)
    try:
        server.url = server.wait_for_line(until, seconds).rsplit(" ", 1)[1]
        server.started_in = time.monotonic() - begun
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def fake_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("exports")), "GRADIO_ANALYTICS_ENABLED": "False"}
    with serve([sys.executable, "-m", "tests.ui.fake_app"], environment, "serves at", 60) as server:
        yield server


@pytest.fixture(scope="session")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app as people start it, with the bundled model."""
    environment = {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("exports"))}
    with serve([sys.executable, "app.py", "--port", "0"], environment, "FlexiDepth Viewer serves", 180) as server:
        yield server


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium: install it with apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens an address, with its query if it has one, in a session of its own. At the end: no script error, and no
    request to another host."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_one(url: str, *, theme: str = "light", width: int = 1280, height: int = 900) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            accept_downloads=True,
            reduced_motion="reduce",
        )
        contexts.append(context)
        parts = urlsplit(url)

        def look(request_url: str) -> None:
            asked = urlsplit(request_url)
            if asked.scheme in ("http", "https", "ws", "wss") and asked.netloc != parts.netloc:
                problems.append(f"request to another host: {request_url}")

        def note(text: str) -> None:
            if "status of 422" not in text:  # how gradio's validators answer
                problems.append(f"console: {text}")

        context.on("request", lambda request: look(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on("console", lambda entry: note(entry.text) if entry.type == "error" else None)
        page.on("dialog", lambda dialog: (problems.append("a dialog opened"), dialog.dismiss()))
        query = f"{parts.query}&" if parts.query else ""
        page.goto(f"{parts.scheme}://{parts.netloc}/?{query}__theme={theme}")
        page.get_by_role("button", name="Run", exact=True).wait_for(timeout=120_000)  # a cold, busy machine
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def page(open_page: OpenPage, fake_app: Server) -> Page:
    """The page over the stand-in model, at its usual size."""
    return open_page(fake_app.url)
