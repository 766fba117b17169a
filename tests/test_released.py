"""The authors' layout: shards, bfloat16, chat template, end tokens, device maps; what is broken is said in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import flexidepth
from flexidepth import generation
from flexidepth.checkpoint import trained_fingerprint
from flexidepth.errors import CheckpointError, EngineError, UsageError
from flexidepth.placement import Placement
from flexidepth.released import load_released
from flexidepth.shards import INDEX_FILE
from tests.released_layout import END_OF_TEXT, END_OF_TURN, write_released


@pytest.fixture
def released(tmp_path: Path) -> Path:
    write_released(tmp_path / "released")
    return tmp_path / "released"


def shard_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("model-*.safetensors"))


def test_shards_give_the_model_that_was_saved(released: Path, tmp_path: Path, ids: torch.Tensor) -> None:
    assert len(shard_files(released)) > 2
    model = write_released(tmp_path / "whole", shards=False)
    assert not (tmp_path / "whole" / INDEX_FILE).exists()
    for directory in (released, tmp_path / "whole"):
        loaded, _ = flexidepth.load(directory, "cpu", "bfloat16")
        with torch.inference_mode():
            assert torch.equal(loaded(ids).logits, model(ids).logits)
        assert loaded.dtype == torch.bfloat16
        assert loaded.name_or_path == str(directory)


def test_routers_are_held_in_float32_and_the_rest_as_stored(released: Path) -> None:
    model, _ = flexidepth.load(released, "cpu", "bfloat16")
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert {kind for name, kind in kinds.items() if ".router." in name} == {torch.float32}
    assert {kind for name, kind in kinds.items() if ".router." not in name} == {torch.bfloat16}


def test_it_streams_in_its_chat_template_until_either_end_token(released: Path) -> None:
    model, tokenizer = flexidepth.load(released)
    start = "<s><|start|>user<|end|>\n\nHi<|eot|><|start|>assistant<|end|>\n\n"
    ids = generation.prompt_ids(tokenizer, "Hi", chat=True, context=256)
    assert ids == tokenizer(start, add_special_tokens=False)["input_ids"]
    assert ids.count(END_OF_TURN) == 1
    steps = list(flexidepth.stream(model, tokenizer, "Hi", max_new_tokens=8))
    assert steps
    assert steps[0].layers_used in (2, 3, 4)
    header = flexidepth.generate(model, tokenizer, "Hi", max_new_tokens=1).header
    assert (header.model, header.num_layers, header.routed_layers) == (str(released), 4, (2, 3))
    for end in (END_OF_TEXT, END_OF_TURN):
        with torch.no_grad():  # all logits are 0: the first token of all, which ends nothing
            model.model.norm.weight.zero_()
            model.lm_head.weight.zero_()
        answer = flexidepth.generate(model, tokenizer, "Hi", max_new_tokens=4)
        assert (len(answer.steps), answer.summary()["stop"]) == (4, "max_new_tokens")
        with torch.no_grad():
            model.model.norm.weight.fill_(1)
            hidden = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            model.lm_head.weight[end] = hidden
        answer = flexidepth.generate(model, tokenizer, "Hi", max_new_tokens=4)
        assert (len(answer.steps), answer.summary()["stop"]) == (1, "end_of_turn")


SPLIT: dict[str, int | str] = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "cpu",
    "model.layers.3": "disk",
    "model.norm": "cpu",
    "lm_head": "disk",
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_layers_on_disk_give_the_same_logits_and_gates(released: Path, ids: torch.Tensor, dtype: str) -> None:
    plain, tokenizer = flexidepth.load(released, "cpu", dtype)
    split, _ = flexidepth.load(released, dtype=dtype, device_map=SPLIT)
    assert any(parameter.is_meta for parameter in split.model.layers[3].router.parameters())
    with torch.inference_mode():
        for routes in ("learned", "all", "none"):
            mine, theirs = split(ids, routes=routes), plain(ids, routes=routes)
            assert torch.equal(mine.logits, theirs.logits)
            assert torch.equal(mine.gates, theirs.gates)
    assert trained_fingerprint(split) == trained_fingerprint(plain)
    ours = flexidepth.generate(split, tokenizer, "Hi", max_new_tokens=6)
    assert ours.header.engine == "reference"  # the cpu engine reads no disk
    wanted = flexidepth.generate(plain, tokenizer, "Hi", max_new_tokens=6, engine="reference")
    assert [step.token_id for step in ours.steps] == [step.token_id for step in wanted.steps]
    with pytest.raises(EngineError, match="whole model in this machine's memory"):
        flexidepth.generate(split, tokenizer, "Hi", engine="cpu")


def test_what_does_not_fit_a_memory_limit_stays_on_disk(released: Path, ids: torch.Tensor) -> None:
    """The way a model larger than a GPU is spread, with this machine's memory as the only one that is limited."""
    plain, _ = flexidepth.load(released, "cpu", "bfloat16")
    told: list[str] = []
    limited = Placement("several", "auto", {"cpu": 80_000})
    spread = load_released(released, "tiny", limited, torch.bfloat16, told.append)
    kept = {name: spread.hf_device_map.get(f"model.layers.{name}") for name in range(4)}
    assert "disk" in kept.values()
    assert spread.device.type == "cpu"
    with torch.inference_mode():
        assert torch.equal(spread(ids).logits, plain(ids).logits)
    assert told == ["tiny is spread over several memories: what does not lie on a GPU is read anew at every token"]


def test_device_maps_that_cannot_be_are_refused(released: Path, tiny: str) -> None:
    with pytest.raises(UsageError, match="embed_tokens on disk: give it a device"):
        flexidepth.load(released, device_map={"": "disk"})
    with pytest.raises(UsageError, match="a device map needs a model in the released layout"):
        flexidepth.load(tiny, device_map=SPLIT)


def remove_one(directory: Path) -> None:
    shard_files(directory)[1].unlink()


def cut_one(directory: Path) -> None:
    shard = shard_files(directory)[1]
    shard.write_bytes(shard.read_bytes()[:-100])


def break_one(directory: Path) -> None:
    shard_files(directory)[0].write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def _index(directory: Path, change: Callable[[dict[str, str]], None]) -> None:
    index = json.loads((directory / INDEX_FILE).read_text())
    change(index["weight_map"])
    (directory / INDEX_FILE).write_text(json.dumps(index))


def promise_more(directory: Path) -> None:
    _index(directory, lambda held: held.update({"model.layers.9.extra": shard_files(directory)[0].name}))


def leave_the_directory(directory: Path) -> None:
    _index(directory, lambda held: held.update({"lm_head.weight": "../model.safetensors"}))


def cut_the_index(directory: Path) -> None:
    (directory / INDEX_FILE).write_text("{")


def lose_the_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove_one, r"lacks model-00002-of-\d+\.safetensors: fetch that file"),
        (cut_one, r"model-00002-of-\d+\.safetensors cannot be read"),
        (break_one, r"model-00001-of-\d+\.safetensors cannot be read"),
        (promise_more, r"lacks model\.layers\.9\.extra, which .* promises"),
        (leave_the_directory, "is no file name"),
        (cut_the_index, r"index\.json cannot be read"),
        (lose_the_tokenizer, "holds no tokenizer that can be read"),
    ],
)
def test_what_is_broken_is_one_line(released: Path, harm: Callable[[Path], None], words: str) -> None:
    harm(released)
    with pytest.raises(CheckpointError, match=words) as error:
        flexidepth.load(released)
    assert "\n" not in str(error.value)
