"""A model whose parameters are sharded over processes trains and saves like a whole one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flexidepth import checkpoint

ROOT = Path(__file__).parents[1]


def run(directory: Path, *launcher: str, how: str) -> Path:
    command = [sys.executable, *launcher, "-m", "tests.sharded_child", str(directory), how]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return directory


def test_two_processes_share_one_model_and_save_it_whole(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    whole, shared = run(tmp_path / "whole", how="whole"), run(tmp_path / "shared", *launcher, how="shared")
    losses = [json.loads((place / "losses.json").read_text()) for place in (whole, shared)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][1] != losses[0][0], "the step moved something"
    states = [load_file(place / checkpoint.WEIGHTS_FILE) for place in (whole, shared)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=2e-2, rtol=2e-2, msg=name)  # saved as bfloat16
    cards = [json.loads((place / checkpoint.CARD_FILE).read_text()) for place in (whole, shared)]
    assert cards[0] == cards[1]
