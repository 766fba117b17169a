"""Checkpoints: exactly the router and adapter tensors, exactly their base model, and one line for everything else."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import flexidepth
from flexidepth import checkpoint
from flexidepth.errors import CheckpointError, UnknownModelError, UsageError
from tests.conftest import GOLDEN, OWN


@pytest.fixture
def saved(tmp_path, base_dir):
    """A checkpoint on the tiny base, its directory and the model it was saved from."""
    torch.manual_seed(11)
    model = checkpoint.from_base(base_dir, {**OWN, "threshold": 0.5, "router_order": "norm-tanh"})
    with torch.no_grad():
        for tensor in checkpoint.trained_state(model).values():
            tensor.copy_((torch.randn_like(tensor) * 0.5).bfloat16())
    checkpoint.save(model, tmp_path / "ours", base=str(base_dir))
    return tmp_path / "ours", model.eval()


def test_saved_keys_are_exactly_router_and_adapter(saved):
    directory, _ = saved
    router = ("router_enc", "router_norm", "router_dec", "router_head")
    adapter = ("gate_proj", "down_proj", "up_proj")
    expected = {
        f"model.layers.{layer}.{part}.{name}.weight"
        for layer in (2, 3)
        for part, names in (("router", router), ("router_proj", adapter))
        for name in names
    }
    state = load_file(directory / "flexidepth.safetensors")
    assert set(state) == expected
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}


def test_load_gives_the_model_back(saved, ids):
    directory, model = saved
    loaded, tokenizer = flexidepth.load(directory, "cpu", "float32")
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    halved, _ = flexidepth.load(directory, "cpu", "bfloat16")
    assert halved.dtype == torch.bfloat16
    assert checkpoint.trained_fingerprint(halved) == checkpoint.trained_fingerprint(model)
    assert tokenizer.decode(tokenizer("é")["input_ids"]) == "é"
    assert not loaded.training


def test_another_base_is_refused_unless_forced(saved, tmp_path, base_dir):
    directory, _ = saved
    other = tmp_path / "other"
    model = checkpoint.from_base(base_dir, {**OWN, "threshold": 0.5, "router_order": "norm-tanh"})
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    from transformers import LlamaConfig, LlamaForCausalLM

    base = LlamaForCausalLM(LlamaConfig.from_pretrained(base_dir))
    base.load_state_dict({k: v for k, v in model.state_dict().items() if ".router" not in k})
    base.save_pretrained(other)
    for file in base_dir.glob("tokenizer*"):
        (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"was trained on .*force=True"):
        flexidepth.load(directory, base=str(other))
    forced, _ = flexidepth.load(directory, base=str(other), force=True)
    assert checkpoint.trained_fingerprint(forced) == checkpoint.trained_fingerprint(flexidepth.load(directory)[0])


def test_fingerprint_ignores_precision_and_trained_weights(saved):
    _, model = saved
    before = checkpoint.base_fingerprint(model)
    bf16 = model.to(torch.bfloat16)
    rounded = checkpoint.base_fingerprint(bf16)
    assert before == rounded
    with torch.no_grad():
        next(iter(checkpoint.trained_state(model).values())).add_(1)
    assert checkpoint.base_fingerprint(model) == rounded


def test_the_fingerprint_of_trained_weights_follows_them(saved):
    import copy

    _, model = saved
    first = checkpoint.trained_fingerprint(model)
    assert checkpoint.trained_fingerprint(model) == first
    twin = copy.deepcopy(model)
    weight = next(iter(checkpoint.trained_state(model).values()))
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    changed = checkpoint.trained_fingerprint(model)
    assert changed != first
    assert checkpoint.trained_fingerprint(twin) == first
    weight.data = before  # another tensor under the same name
    assert checkpoint.trained_fingerprint(model) == first


NAME = "model.layers.2.router.router_enc.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(NAME), f"missing: {NAME}"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda s: s.update({NAME: torch.zeros(2, 2)}), f"of another shape: {NAME}"),
        (lambda s: s.update({NAME: s[NAME] * float("nan")}), f"not finite: {NAME}"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(saved, change, words):
    directory, _ = saved
    state = load_file(directory / "flexidepth.safetensors")
    change(state)
    save_file(state, directory / "flexidepth.safetensors")
    with pytest.raises(CheckpointError) as error:
        flexidepth.load(directory)
    assert words in str(error.value)


def test_broken_files_are_refused(saved):
    directory, _ = saved
    weights = directory / "flexidepth.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="fetch the checkpoint again"):
        flexidepth.load(directory)
    card = json.loads((directory / "flexidepth.json").read_text())
    del card["config"]["gate_scaling"]
    (directory / "flexidepth.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="gate_scaling"):
        flexidepth.load(directory)
    (directory / "flexidepth.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        flexidepth.load(directory)
    (directory / "flexidepth.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        flexidepth.load(directory)


def test_released_layout_loads_by_directory(tmp_path, tokenizer):
    import shutil

    shutil.copytree(GOLDEN, tmp_path / "released")
    tokenizer.save_pretrained(tmp_path / "released")
    model, loaded = flexidepth.load(tmp_path / "released")
    assert model.config.model_type == "ddllama"
    assert len(loaded) == len(tokenizer)


def test_unknown_models_and_plain_models_are_refused_with_the_way_out(tmp_path, base_dir):
    with pytest.raises(UnknownModelError, match="use one of smollm2-135m, a directory"):
        flexidepth.load("smollm2-136m")
    with pytest.raises(UnknownModelError, match=r"neither flexidepth\.json nor config\.json"):
        flexidepth.load(tmp_path)
    with pytest.raises(UsageError, match="python -m flexidepth train --base"):
        flexidepth.load(base_dir)
    with pytest.raises(UsageError, match="not available"):
        flexidepth.load(base_dir, "warp9")
    with pytest.raises(UsageError, match="dtype 'float31'"):
        flexidepth.load(GOLDEN, "cpu", "float31")
