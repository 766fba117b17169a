"""What a model takes, where it goes, and what is said when there is no room for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import flexidepth
from flexidepth.configuration import DDLlamaConfig
from flexidepth.errors import UsageError
from flexidepth.placement import GB, Need, Placement, Room, Size, place, shortage
from tests.conftest import build_model
from tests.released_layout import write_released

RELEASE = DDLlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    routed_layers=list(range(16, 32)),
    dtype="bfloat16",
)


def test_parameters_are_counted_without_making_them() -> None:
    model = build_model(tie_word_embeddings=True)
    routers = sum(p.numel() for name, p in model.named_parameters() if ".router." in name)
    size = Size.of(model.config)
    assert size.routers == routers > 0
    assert size.routers + size.others == sum(p.numel() for p in model.parameters())


def test_the_release_takes_what_its_shapes_say() -> None:
    size = Size.of(RELEASE)
    # Llama-3-8B has 8,030,261,248 parameters; each of 16 routed layers adds a router and an adapter.
    assert size.routers == 16 * 2_101_504
    assert size.others == 8_030_261_248 + 16 * 11_010_048
    need = Need.of(RELEASE)
    assert need.gpu == need.host
    assert 16.5 * GB < need.gpu < 19 * GB
    assert Need.of(RELEASE, torch.float32).host > 1.9 * need.host


def test_small_models_take_float32_and_a_copy_on_a_cpu() -> None:
    config = build_model(dtype="bfloat16").config
    size = Size.of(config)
    need = Need.of(config)
    assert need.host - GB == int((4 * size.routers + 2 * 4 * size.others) * 1.05)
    assert need.gpu - GB == int((4 * size.routers + 2 * size.others) * 1.05)


NEED = Need(gpu=18 * GB, host=18 * GB, largest=GB, weights=16 * GB)


@pytest.mark.parametrize(
    ("room", "may_split", "wanted"),
    [
        (Room(20 * GB), True, Placement("cpu", "cpu")),
        (Room(17 * GB), True, None),
        (Room(GB, (20 * GB,)), True, Placement("cuda:0", "cuda:0")),
        (Room(GB, (3 * GB, 20 * GB)), True, Placement("cuda:1", "cuda:1")),
        (Room(9 * GB, (8 * GB,)), True, Placement("several", "auto", {0: 7 * GB, "cpu": 8 * GB})),
        (Room(9 * GB, (8 * GB,)), False, None),
        (Room(20 * GB, (8 * GB,)), False, Placement("cpu", "cpu")),
        (Room(20 * GB, (GB,)), True, Placement("cpu", "cpu")),
        (Room(2 * GB, (GB,)), True, None),
    ],
)
def test_places(room: Room, may_split: bool, wanted: Placement | None) -> None:
    assert place(NEED, room, may_split=may_split) == wanted


def test_a_shortage_says_what_is_needed_what_is_here_and_the_way_out() -> None:
    assert shortage(NEED, Room(9 * GB)) == (
        "needs 18.0 GB of memory, 9.0 GB are free here: free some, or use a machine with 24 GB or a GPU with 24 GB"
    )
    assert "and 2.0 GB on the GPU" in shortage(NEED, Room(9 * GB, (2 * GB,)))


def test_a_model_without_room_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_released(tmp_path / "released")
    monkeypatch.setattr(Room, "here", classmethod(lambda cls: cls(GB // 2)))
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(
        UsageError, match=r"released needs 1\.0 GB of memory, 0\.5 GB are free here: free some"
    ) as error:
        flexidepth.load(tmp_path / "released")
    assert "\n" not in str(error.value)


def test_a_named_device_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_released(tmp_path / "released")
    monkeypatch.setattr(Room, "here", classmethod(lambda cls: cls(0)))
    model, _ = flexidepth.load(tmp_path / "released", "cpu")
    assert model.dtype == torch.float32
