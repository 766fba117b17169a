"""The command line of the app: addresses, ports, and what goes wrong before it serves."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import app
from flexidepth.errors import FlexiDepthError, UnknownModelError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("arguments", "environment", "host", "port"),
    [
        ([], {}, "127.0.0.1", 7860),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, "0.0.0.0", 7860),
        ([], {"SPACE_ID": "someone/space"}, "0.0.0.0", 7860),
        ([], {"PORT": "8000", "GRADIO_SERVER_PORT": "9000"}, "127.0.0.1", 8000),
        ([], {"GRADIO_SERVER_PORT": "9000"}, "127.0.0.1", 9000),
        (["--host", "::1", "--port", "1"], {"PORT": "8000", "GRADIO_SERVER_NAME": "x"}, "::1", 1),
    ],
)
def test_addresses(arguments: list[str], environment: dict[str, str], host: str, port: int) -> None:
    given = app.parse_arguments(arguments, environment)
    assert (given.host, given.port, given.model) == (host, port, "smollm2-135m")


@pytest.mark.parametrize(
    ("arguments", "environment", "models"),
    [
        (["--model", "a", "--model", "b"], {"FLEXIDEPTH_MODEL": "c"}, ["a", "b"]),
        ([], {"FLEXIDEPTH_MODEL": "c"}, ["c"]),
        ([], {"FLEXIDEPTH_MODEL": ""}, ["smollm2-135m"]),
    ],
)
def test_models(arguments: list[str], environment: dict[str, str], models: list[str]) -> None:
    given = app.parse_arguments(arguments, environment)
    assert (given.models, given.model) == (models, models[0])


@pytest.mark.parametrize("port", ["-1", "65536", "many", "1.5", ""])
def test_ports_that_are_none(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        app.parse_arguments(["--port", port], {})
    assert stopped.value.code == 2
    assert "is not a port" in capsys.readouterr().err


def test_a_taken_port_is_one_line_and_nothing_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexidepth.checkpoint.load", lambda *_: pytest.fail("loaded a model for a taken port"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.main(["--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"127.0.0.1:{port}" in error
    assert "--port" in error


def test_a_host_that_is_not_ours_is_one_line() -> None:
    with pytest.raises(FlexiDepthError, match="--host"):
        app.check_port("192.0.2.1", 0)


def test_port_zero_finds_a_free_one() -> None:
    port = app.check_port("127.0.0.1", 0)
    assert 0 < port < 65536
    assert app.check_port("127.0.0.1", port) == port


def test_an_unknown_model_exits_with_two(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **_: Any) -> Any:
        raise UnknownModelError(f"no model is called {name}")

    monkeypatch.setattr("flexidepth.checkpoint.load", load)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    assert app.main(["--port", "0", "--model", "nothing"]) == 2
    assert capsys.readouterr().err == "error: no model is called nothing\n"


def test_help_is_quick_and_names_the_options() -> None:
    done = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for option in ("--host", "--port", "--model"):
        assert option in done.stdout


def test_the_page_keeps_and_sends_nothing() -> None:
    settings = app.launch_settings()
    assert settings["share"] is False
    assert settings["run_history"] is False
    assert settings["ssr_mode"] is False
    config = SimpleNamespace(num_hidden_layers=4, routed_layers=[2, 3], threshold=0.5)
    demo = app.build_demo(SimpleNamespace(config=config), None, "toy", start=lambda *_, **__: pytest.fail("ran"))
    assert demo.analytics_enabled is False
    assert demo.delete_cache == (600, 3600)


def test_only_stream_and_trace_can_be_called() -> None:
    config = SimpleNamespace(num_hidden_layers=4, routed_layers=[2, 3], threshold=0.5)
    demo = app.build_demo(SimpleNamespace(config=config), None, "toy", start=lambda *_, **__: pytest.fail("ran"))
    offered = {fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"}
    assert offered == {"stream", "trace"}
