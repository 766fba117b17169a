"""/stream and /trace through gradio_client, over the stand-in model."""

from __future__ import annotations

import json
import threading
from itertools import pairwise

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from flexidepth.trace import Trace
from tests.ui.conftest import Server
from tests.ui.sample_traces import WORDS, make_steps

pytestmark = pytest.mark.ui


@pytest.fixture
def client(fake_app: Server, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    return Client(fake_app.url, analytics_enabled=False, verbose=False)


def test_only_the_two_endpoints_are_offered(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/stream", "/trace"}
    for endpoint in named.values():
        parameters = {each["parameter_name"]: each for each in endpoint["parameters"]}
        assert list(parameters) == ["prompt", "max_new_tokens", "temperature", "seed", "threshold", "chat"]
        assert [name for name, each in parameters.items() if not each["parameter_has_default"]] == ["prompt"]


def test_stream_grows_line_by_line_into_a_trace(client: Client) -> None:
    yields = list(client.submit("words", api_name="/stream"))
    assert len(yields) >= 2
    for earlier, later in pairwise(yields):
        assert later.startswith(earlier)
        assert later.endswith("\n")
    trace = Trace.from_lines(yields[-1].splitlines())
    assert trace.steps == make_steps()
    assert json.loads(yields[-1].splitlines()[-1])["summary"]["tokens"] == len(WORDS)


def test_trace_is_the_whole_run_as_one_object(client: Client) -> None:
    whole = client.predict("words", max_new_tokens=5, seed=2, threshold=0.25, chat=False, api_name="/trace")
    assert set(whole) == {"trace", "tokens", "summary"}
    steps = make_steps(WORDS[:5], seed=2, stop="max_new_tokens")
    assert [token["layers_used"] for token in whole["tokens"]] == [step.layers_used for step in steps]
    assert whole["tokens"][0]["gates"] == pytest.approx(steps[0].gates)
    assert whole["summary"]["stop"] == "max_new_tokens"
    assert whole["trace"]["num_layers"] == 30


@pytest.mark.parametrize("endpoint", ["/stream", "/trace"])
def test_refusals_come_with_their_reason(client: Client, endpoint: str) -> None:
    with pytest.raises(AppError, match="9000 tokens"):
        client.predict("refuse", api_name=endpoint)
    with pytest.raises(AppError, match="RuntimeError") as caught:
        client.predict("fail", api_name=endpoint)
    assert "secret" not in str(caught.value)
    assert client.predict("words", api_name="/trace")["summary"]["tokens"] == len(WORDS)


def test_callers_at_once_all_get_their_own(fake_app: Server, client: Client) -> None:
    results: dict[str, list[str]] = {}

    def call(word: str) -> None:
        own = Client(fake_app.url, analytics_enabled=False, verbose=False)
        whole = own.predict(f"slow {word}", max_new_tokens=20, api_name="/trace")
        results[word] = [token["text"] for token in whole["tokens"]]

    threads = [threading.Thread(target=call, args=(word,)) for word in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {word: [f" {word}"] * 20 for word in ("one", "two", "three")}


def test_cancelling_a_stream_stops_the_work(client: Client, fake_app: Server) -> None:
    job = client.submit("slow river", max_new_tokens=400, api_name="/stream")
    for seen, _ in enumerate(job):
        if seen == 3:
            job.cancel()
            break
    assert 3 <= int(fake_app.wait_for_line("closed river after", 30).split()[-1]) < 200
