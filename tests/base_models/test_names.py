"""What a base model may be called, and where it then is."""

import dataclasses
from pathlib import Path

import pytest

from flexidepth.base_models import BUNDLED, SMOLLM2_135M, base_directory, cache_directory
from flexidepth.errors import UnknownModelError


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
