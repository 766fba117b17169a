"""The mean of runs: of the weights exactly, of nothing that does not fit, with every run in its record."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from flexidepth import checkpoint
from flexidepth.averaging import average
from flexidepth.cli import main
from flexidepth.errors import CheckpointError, UsageError
from tests.conftest import OWN


def run(directory, base_dir, *, seed, **own):
    """A directory as train leaves it."""
    torch.manual_seed(seed)
    model = checkpoint.from_base(base_dir, OWN | own)
    with torch.no_grad():
        for parameter in checkpoint.trained_state(model).values():
            parameter.normal_()
    checkpoint.save(model, directory, base=str(base_dir))
    record = {"settings": {"seed": seed}, "tokens": {"warm_start": 0, "joint": 10 * seed}, "seconds": seed, "log": []}
    (directory / "training.json").write_text(json.dumps(record))
    return directory


def test_every_weight_is_the_mean_and_the_checkpoint_loads(tmp_path, base_dir):
    runs = [run(tmp_path / str(seed), base_dir, seed=seed) for seed in (1, 2, 3)]
    out = average(runs, tmp_path / "mean")
    states = [load_file(each / "flexidepth.safetensors") for each in runs]
    found = load_file(out / "flexidepth.safetensors")
    assert found.keys() == states[0].keys()
    for name, tensor in found.items():
        expected = sum(state[name].double() for state in states) / 3
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor.double(), expected, rtol=2**-8, atol=1e-6)
    model, _ = checkpoint.load(str(out))
    torch.testing.assert_close(dict(checkpoint.trained_state(model)), {n: t.float() for n, t in found.items()})
    record = json.loads((out / "training.json").read_text())
    assert record["settings"]["seed"] == 1
    assert record["averaged_with"] == [
        {"tokens": {"warm_start": 0, "joint": 10 * seed}, "seconds": seed, "seed": seed} for seed in (2, 3)
    ]


def test_the_command_writes_it(tmp_path, base_dir, capsys):
    runs = [str(run(tmp_path / str(seed), base_dir, seed=seed)) for seed in (1, 2)]
    assert main(["average", *runs, "--out", str(tmp_path / "mean")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mean'}\n"


def test_what_has_no_mean_is_refused_and_nothing_is_written(tmp_path, base_dir):
    one = run(tmp_path / "one", base_dir, seed=1)
    other = run(tmp_path / "other", base_dir, seed=2, threshold=0.25)
    with pytest.raises(UsageError, match="two runs or more"):
        average([one], tmp_path / "mean")
    with pytest.raises(CheckpointError, match="differ in their config"):
        average([one, other], tmp_path / "mean")
    with pytest.raises(UsageError, match=r"no flexidepth\.json"):
        average([one, tmp_path], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
    with pytest.raises(UsageError, match="exists: choose another --out"):
        average([one, one], other)
