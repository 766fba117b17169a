"""Hub ids: the real client against a server that speaks as much of the Hub's protocol as it needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import flexidepth
from tests.base_models.helpers import child, last_line
from tests.released_layout import write_released

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as snapshot_download speaks; owner/name is public, owner/gated is not."""

    files: dict[str, bytes]
    beside: ClassVar[dict[str, bytes]] = {"onnx/model.onnx": b"", "README.md": b""}  # listed, and not to be fetched

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and parts[3] in ("name", "gated", "bare"):
            self.api(parts)
        elif "resolve" in parts and parts[1] == "gated":
            self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif "resolve" in parts:
            data = self.files[parts[-1]]
            self.answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})
        elif "down" in self.path:
            self.answer(500, b"", {})
        else:
            self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def api(self, parts: list[str]) -> None:
        files = {"config.json": b"{}"} if parts[3] == "bare" else {**self.files, **self.beside}
        if "tree" in parts:
            listing = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()]
            self.answer(200, json.dumps(listing).encode(), {})
        else:
            siblings = [{"rfilename": name} for name in files]
            about = {"id": f"owner/{parts[3]}", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            self.answer(200, json.dumps(about).encode(), {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class ReleaseHub(Hub):
    """A repository in the authors' layout: shards, code, and the weights once more for another program."""

    beside = dict.fromkeys(("original/consolidated.00.pth", "original/model.safetensors", "modeling.py"), b"")


@pytest.fixture(scope="module")
def hub(prepared_once: Path) -> Iterator[str]:
    Hub.files = {path.name: path.read_bytes() for path in (prepared_once / "tiny").iterdir()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_hub_id_is_fetched_and_later_needs_no_network(hub: str, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    line = last_line(child("owner/name", HF_ENDPOINT=hub, **home))
    assert line.startswith("path: "), line
    directory = Path(line.removeprefix("path: "))
    assert {path.name for path in directory.iterdir()} == Hub.files.keys()
    for name, data in Hub.files.items():
        assert (directory / name).read_bytes() == data
    assert last_line(child("owner/name", HF_HUB_OFFLINE="1", **home)) == line


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/none", "UnknownModelError: owner/none is no directory and no model on the Hub; check the spelling"),
        ("owner/--x", "UnknownModelError: owner/--x is no directory and no model on the Hub; check the spelling"),
        ("owner/gated", "BaseModelError: owner/gated is gated: accept its terms"),
        ("owner/bare", "BaseModelError: owner/bare lacks config.json or safetensors weights"),
        ("owner/down", "BaseModelError: cannot fetch owner/down from the Hub"),
    ],
)
def test_hub_errors_are_one_line(hub: str, tmp_path: Path, name: str, expected: str) -> None:
    line = last_line(child(name, HF_ENDPOINT=hub, HF_HOME=str(tmp_path), HF_HUB_DISABLE_XET="1"))
    assert line.startswith(expected), line


@pytest.mark.parametrize("env", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_hub_out_of_reach_is_one_line(tmp_path: Path, env: dict[str, str]) -> None:
    line = last_line(child("owner/name", HF_HOME=str(tmp_path), **env))
    assert line.startswith("BaseModelError: cannot fetch owner/name from the Hub ("), line
    assert "check network and disk and start again, or name a directory" in line


def test_shards_are_fetched_and_nothing_beside_them(tmp_path: Path) -> None:
    write_released(tmp_path / "release")
    ReleaseHub.files = {path.name: path.read_bytes() for path in (tmp_path / "release").iterdir()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), ReleaseHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_XET": "1"}
    try:
        line = last_line(child("owner/name", HF_HOME=str(tmp_path / "home"), **settings))
    finally:
        server.shutdown()
    directory = Path(line.removeprefix("path: "))
    fetched = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert fetched == ReleaseHub.files.keys()
    assert sum(name.startswith("model-") for name in fetched) > 2
    model, _ = flexidepth.load(directory)
    assert model.config.model_type == "ddllama"
