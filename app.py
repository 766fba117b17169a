"""The web app: settings -> model -> page -> server. Wiring only: the layout is in analysis.views.page."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import gradio as gr

from analysis.runs import Progress, Runner, Start
from analysis.tasks import samples, task_named
from analysis.turns import Turns
from analysis.views.compare_tab import wire_compare
from analysis.views.opening import wire_opening
from analysis.views.page import Page, build_page
from analysis.views.rerun import wire_rerun
from analysis.views.results import shown
from analysis.views.theme import STYLE, theme
from analysis.views.token_view import view_value, waiting_line
from flexidepth.errors import FlexiDepthError, UsageError
from flexidepth.trace import Trace

if TYPE_CHECKING:
    from flexidepth.shelf import Shelf

WAITING_ROOM = 16  # visitors who see their place in line; further ones wait in gradio's queue
KEEP_SECONDS = 3600  # exported files
DEFAULT_MODEL = "smollm2-135m"


def build_demo(
    model: Any, tokenizer: Any, name: str, start: Start | None = None, shelf: Shelf | None = None
) -> gr.Blocks:
    """The page and its two endpoints, /stream and /trace, for one loaded model, or for a shelf's, of which it is the
    first. `start` replaces flexidepth.generation.start in tests.
    """
    if start is None:
        from flexidepth import generation

        start = generation.start
    if shelf is None:
        from flexidepth.shelf import Shelf

        shelf = Shelf.holding({name: (model, tokenizer)})
    runner = Runner(shelf, start, Turns())
    entries = shelf.entries()
    with gr.Blocks(
        title="FlexiDepth Viewer", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS), fill_width=True
    ) as demo:
        page, compare = build_page(entries, entries[0])
        _wire_page(page, runner)
        wire_compare(compare, runner, page.picker.model, _told, WAITING_ROOM)
        wire_rerun(page.rerun, runner, page.trace, _told, WAITING_ROOM)
        wire_opening(demo, page, compare, shelf)
        _wire_endpoints(runner)
    demo.queue(max_size=64, default_concurrency_limit=WAITING_ROOM)
    return demo


def _wire_page(page: Page, runner: Runner) -> None:
    def choose_task(name: str) -> tuple[dict[str, Any], str]:
        task = task_named(name)
        offered = samples(task)
        return gr.update(choices=[each.title for each in offered], value=offered[0].title), task.prompt(offered[0])

    def choose_sample(name: str, title: str) -> str:
        task = task_named(name)
        chosen = {each.title: each for each in samples(task)}.get(title, samples(task)[0])
        return task.prompt(chosen)

    def check(*settings: Any) -> list[Any]:
        prompt, seed = settings[0], settings[4]
        fine = gr.validate(True, "")
        empty = gr.validate(bool(prompt.strip()), "Write a prompt first, or choose an example.")
        seeded = gr.validate(seed is not None and 0 <= seed < 2**63, "The seed is a whole number from 0 up.")
        return [empty, fine, fine, fine, seeded, fine, fine]

    def begin(*_: object) -> tuple[Any, ...]:
        hidden = gr.update(visible=False)
        return gr.update(interactive=False), gr.update(interactive=True), hidden, hidden, hidden, "", None

    def answer(
        prompt: str,
        max_new_tokens: float,
        temperature: float,
        top_p: float,
        seed: float,
        threshold: float,
        chat: bool,
        model: str | None,
    ) -> Iterator[tuple[str, Trace | None]]:
        settings = _settings(max_new_tokens, temperature, seed, threshold, chat) | {"top_p": float(top_p)}
        with closing(runner.run(prompt, settings, model)) as run:
            for now in _told(run):
                yield (view_value(now.lines) if now.trace else waiting_line(now.waiting)), now.trace

    def finish(trace: Trace | None, dark: bool) -> dict[Any, Any]:
        update: dict[Any, Any] = {page.run: gr.update(interactive=True), page.stop: gr.update(interactive=False)}
        if trace is None or not trace.generated:
            return update
        update |= {page.view: view_value(trace.to_lines()), page.rerun.whole: gr.update(visible=True)}
        return update | shown(page.results, trace, dark=dark)

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    page.task.input(choose_task, page.task, [page.sample, page.prompt], queue=False, **quiet)
    page.sample.input(choose_sample, [page.task, page.sample], page.prompt, queue=False, **quiet)
    began = gr.on(
        [page.run.click, page.prompt.submit],
        begin,
        page.settings,
        [page.run, page.stop, page.results.column, page.rerun.whole, page.rerun.both, page.view, page.trace],
        validator=check,
        **quiet,
    )
    asked = [*page.settings, page.picker.model]
    answered = began.success(answer, asked, [page.view, page.trace], concurrency_limit=WAITING_ROOM, **quiet)
    finished = [page.run, page.stop, page.view, page.rerun.whole, *page.results.all]
    theme_now = "(trace, dark) => [trace, document.body.classList.contains('dark')]"
    for outcome in (answered.success, answered.failure):  # `then` does not follow a failure in gradio 6.31
        outcome(finish, [page.trace, page.dark], finished, js=theme_now, **quiet)
    page.stop.click(finish, [page.trace, page.dark], finished, js=theme_now, cancels=[answered], **quiet)


def _wire_endpoints(runner: Runner) -> None:
    def stream(
        prompt: str,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        threshold: float | None = None,
        chat: bool = True,
    ) -> Iterator[str]:
        """Answers a prompt; every message holds the run so far as JSON lines: header, tokens, at the end a summary."""
        settings = _settings(max_new_tokens, temperature, seed, threshold, chat)
        with closing(runner.run(prompt, settings)) as run:
            for now in _told(run):
                if now.trace:
                    yield "".join(line + "\n" for line in now.lines)

    def trace(
        prompt: str,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        threshold: float | None = None,
        chat: bool = True,
    ) -> dict[str, Any]:
        """Answers a prompt; the whole run as one object: trace (how it was made), tokens, summary."""
        settings = _settings(max_new_tokens, temperature, seed, threshold, chat)
        with closing(runner.run(prompt, settings)) as run:
            *_, last_progress = _told(run)
        first, *tokens, last = map(json.loads, last_progress.lines)
        return {**first, "tokens": tokens, **last}

    for function in (stream, trace):
        gr.api(function, api_name=function.__name__, concurrency_limit=WAITING_ROOM)


def _settings(
    max_new_tokens: float, temperature: float, seed: float, threshold: float | None, chat: bool
) -> dict[str, Any]:
    return {
        "max_new_tokens": max_new_tokens if isinstance(max_new_tokens, int) else int(max_new_tokens),
        "temperature": float(temperature),
        "seed": int(seed),
        "threshold": None if threshold is None else float(threshold),
        "chat": bool(chat),
    }


def _told(run: Iterator[Progress]) -> Iterator[Progress]:
    """The same run; what goes wrong becomes a message for the visitor, without anything that was typed."""
    try:
        yield from run
    except FlexiDepthError as error:
        raise gr.Error(str(error), title="This cannot run", print_exception=False) from None
    except (GeneratorExit, gr.Error):
        raise
    except Exception as error:
        message = f"The run broke off inside the model ({type(error).__name__}). Try a shorter prompt or fewer tokens."
        raise gr.Error(message, title="The model failed", print_exception=False) from None


def launch_settings() -> dict[str, Any]:
    """Nothing leaves this machine and nothing that people type is kept: no link, no history, no statistics."""
    return {
        "theme": theme(),
        "css": STYLE,
        "quiet": True,
        "share": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": ["api", "settings"],
    }


def check_port(host: str, port: int) -> int:
    """The port, free at this moment; 0 finds one. Raises FlexiDepthError when it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or error
        raise FlexiDepthError(
            f"cannot serve on {host}:{port} ({reason}): choose another with --port or --host"
        ) from None


def parse_arguments(arguments: list[str] | None, environment: dict[str, str]) -> argparse.Namespace:
    host = environment.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if environment.get("SPACE_ID") else "127.0.0.1")
    port = environment.get("PORT") or environment.get("GRADIO_SERVER_PORT") or "7860"
    parser = argparse.ArgumentParser(prog="python app.py", description="Serves the FlexiDepth Viewer.")
    parser.add_argument("--host", default=host, help="address to serve on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=port, help="port to serve on, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        action="append",
        dest="models",
        metavar="MODEL",
        help=f"bundled name, directory or Hub id (default: {DEFAULT_MODEL}); given again, further ones to choose from",
    )
    given = parser.parse_args(arguments)
    given.models = given.models or [environment.get("FLEXIDEPTH_MODEL") or DEFAULT_MODEL]
    given.model = given.models[0]
    return given


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def _models(given: list[str], environment: dict[str, str]) -> tuple[Shelf, Start | None]:
    """The models of the page, the first one loaded, and what starts a run. On a ZeroGPU Space those given, all of them
    loaded now, because a run there is a fork of this process.
    """
    from flexidepth import zero_gpu

    spaces = zero_gpu.lend(environment)
    from transformers.utils import logging

    from flexidepth import generation
    from flexidepth.checkpoint import load
    from flexidepth.engines import make_ready
    from flexidepth.known_models import listed_names
    from flexidepth.shelf import Shelf

    logging.disable_progress_bar()

    def say(line: str) -> None:
        print(line, flush=True)

    if spaces:
        held = {name: load(name, "cuda", progress=say) for name in given}
        return Shelf.holding(held), zero_gpu.lent_start(spaces, held, generation.start)

    def ready(name: str) -> tuple[Any, Any]:
        model, tokenizer = load(name, progress=say)
        say(f"Engine: {make_ready('auto', model)}")
        return model, tokenizer

    shelf = Shelf(listed_names(given), ready, given=len(set(given)))
    shelf.take(None)
    return shelf, None


def main(arguments: list[str] | None = None) -> int:
    given = parse_arguments(arguments, dict(os.environ))
    # Gradio reads these, and calls its own address while it starts.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "localhost,127.0.0.1,0.0.0.0")))
    try:
        port = check_port(given.host, given.port)
        shelf, start = _models(given.models, dict(os.environ))
        demo = build_demo(*shelf.take(None), given.model, start, shelf)
        _, url, _ = demo.launch(
            server_name=given.host, server_port=port, prevent_thread_lock=True, **launch_settings()
        )
    except (FlexiDepthError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(f"FlexiDepth Viewer serves {given.model} at {url}", flush=True)
    demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
