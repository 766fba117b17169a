"""Training on the tiny base: what trains, what is logged, what is saved, and that splitting a batch changes
nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import flexidepth
from flexidepth import checkpoint, starting_point, training, warm_start
from flexidepth.errors import UsageError
from flexidepth.settings import TrainingSettings
from flexidepth.training_rows import TrainingRows


@pytest.fixture(scope="session")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    turns = (
        [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"{i}! " * 9}] for i in range(400)
    )
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in turns))
    return path


@pytest.fixture
def settings(tmp_path, base_dir, data_file):
    return TrainingSettings(
        out=str(tmp_path / "out"),
        base=str(base_dir),
        data=str(data_file),
        router_reduction_factor=4,
        adapter_reduction_factor=4,
        steps=6,
        batch_rows=4,
        row_length=32,
        warm_start_steps=4,
        save_every=3,
        log_every=1,
        learning_rate=1e-2,
        rescale_penalty=False,
    )


def losses(settings, rows, batch_rows, accumulation):
    """The logged numbers and the trained weights after one step."""
    once = {"steps": 1, "kl_fraction": 1.0, "penalty_ramp": 0.0}
    settings = replace(settings, batch_rows=batch_rows, accumulation=accumulation, **once)
    model, _ = starting_point.prepare(settings)
    torch.manual_seed(3)
    for parameter in checkpoint.trained_state(model).values():
        torch.nn.init.normal_(parameter, std=0.3)
    trainer = training.FlexiDepthTrainer(
        settings,
        model=model,
        args=training.training_arguments(settings, settings.out),
        train_dataset=TrainingRows(rows),
    )
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    return entry, {name: tensor.detach().clone() for name, tensor in checkpoint.trained_state(model).items()}


@pytest.mark.parametrize("objective", ["distill", "lm"])
def test_loss_and_step_are_the_same_under_accumulation(settings, objective):
    settings = replace(settings, objective=objective, skip_penalty=0.1)
    rows = np.random.default_rng(0).integers(0, 256, (4, 32))
    whole, one_step = losses(settings, rows, 4, 1)
    parts, four_steps = losses(settings, rows, 1, 4)
    for name in ("loss", "skip_loss", "mean_layers_used", "kl_loss" if objective == "distill" else "lm_loss"):
        assert whole[name] == pytest.approx(parts[name], rel=1e-4), name
    assert whole["loss"] == pytest.approx(
        whole["kl_loss" if objective == "distill" else "lm_loss"] + 0.1 * whole["skip_loss"], rel=1e-4
    )
    assert whole["grad_norm"] == pytest.approx(parts["grad_norm"], rel=1e-3)
    for name, tensor in one_step.items():
        torch.testing.assert_close(tensor, four_steps[name], atol=2e-4, rtol=1e-2)


def test_alpha_meant_for_sixteen_routed_layers_counts_more_where_there_are_two(settings):
    settings = replace(settings, skip_penalty=0.01, rescale_penalty=True)
    entry, _ = losses(settings, np.random.default_rng(0).integers(0, 256, (4, 32)), 4, 1)
    assert entry["loss"] == pytest.approx(entry["kl_loss"] + 16 / 2 * 0.01 * entry["skip_loss"], rel=1e-4)
    assert entry["penalty"] == 0.01, "told as it was asked for"


def test_training_from_kept_states_takes_the_steps_of_plain_training(settings, tmp_path):
    settings = replace(settings, rows=12, steps=6, kl_fraction=1.0)  # 12 rows, read twice
    plain = training.train(replace(settings, out=str(tmp_path / "plain")))
    kept = training.train(replace(settings, out=str(tmp_path / "kept"), hidden_cache=str(tmp_path / "hidden")))
    for name, tensor in load_file(plain / "flexidepth.safetensors").items():
        torch.testing.assert_close(tensor, load_file(kept / "flexidepth.safetensors")[name], atol=0.02, rtol=0.05)
    plain_log, kept_log = (json.loads((out / "training.json").read_text())["log"] for out in (plain, kept))
    for one, other in zip(plain_log, kept_log, strict=True):
        assert one["kl_loss"] == pytest.approx(other["kl_loss"], rel=0.02)


def test_a_run_from_start_to_checkpoint(settings):
    out = training.train(settings)
    record = json.loads((out / "training.json").read_text())
    assert record["settings"]["seed"] == 0
    assert record["tokens"] == {"warm_start": 4 * 4 * 32, "joint": 6 * 4 * 32, "different": 6 * 4 * 32}
    assert len(record["log"]) == 6
    assert {"kl_loss", "skip_loss", "mean_layers_used", "penalty"} <= set(record["log"][0])
    assert record["start"]["curve"][-1] < record["start"]["curve"][0]
    model, _ = flexidepth.load(out)
    base = checkpoint.from_base(Path(settings.base), record_config(out))
    for name, tensor in model.named_parameters():
        if ".router" not in name:
            assert torch.equal(tensor, base.get_parameter(name)), f"{name} moved: the base must stay frozen"
    state = load_file(out / "state" / "checkpoint-6" / "model.safetensors")
    assert set(state) == set(checkpoint.trained_state(model)), "a resumable state holds what trains and nothing else"


def record_config(out):
    return json.loads((out / "flexidepth.json").read_text())["config"]


def test_priced_routers_and_sampled_gates_hold_a_target_depth(settings):
    settings = replace(
        settings,
        gate_scaling="hard",
        sampled_gates=True,
        target_depth=3.0,
        cost_steps=20,
        rows=80,
        steps=120,
        router_learning_rate=3e-3,
        skip_penalty=0.1,
    )
    record = json.loads((training.train(settings) / "training.json").read_text())
    assert record["start"]["price"] > 0
    assert len(record["start"]["skip_cost"]) == 2
    assert record["tokens"]["joint"] == 6 * record["tokens"]["different"]
    depths = [entry["mean_layers_used"] for entry in record["log"]]
    assert sum(depths[-30:]) / 30 == pytest.approx(3.0, abs=0.25)


def test_a_second_stage_takes_routers_and_adapters(settings, tmp_path):
    first = training.train(settings)
    still = replace(
        settings, out=str(tmp_path / "second"), start_from=str(first), keep_routers=True, steps=1, learning_rate=0.0
    )
    second = training.train(still)
    for name, tensor in load_file(first / "flexidepth.safetensors").items():
        assert torch.equal(tensor, load_file(second / "flexidepth.safetensors")[name]), name
    record = json.loads((second / "training.json").read_text())
    assert record["before"]["settings"]["steps"] == settings.steps
    assert record["tokens"]["warm_start"] == 0


def test_routers_have_a_learning_rate_of_their_own(settings):
    model, _ = starting_point.prepare(settings)
    settings = replace(settings, router_learning_rate=1e-4)
    trainer = training.FlexiDepthTrainer(
        settings,
        model=model,
        args=training.training_arguments(settings, settings.out),
        train_dataset=TrainingRows(np.zeros((4, 32), dtype=np.int32)),
    )
    adapters, routers = trainer.create_optimizer().param_groups
    assert (adapters["lr"], routers["lr"]) == (settings.learning_rate, 1e-4)
    layers = [layer for layer in model.model.layers if hasattr(layer, "router")]
    assert {*map(id, routers["params"])} == {id(p) for layer in layers for p in layer.router.parameters()}
    assert {*map(id, adapters["params"])} == {id(p) for layer in layers for p in layer.router_proj.parameters()}


@pytest.mark.parametrize("target_depth", [None, 3.0])
def test_a_stopped_run_resumes_to_the_same_weights(settings, monkeypatch, target_depth):
    settings = replace(settings, target_depth=target_depth)
    uncut = training.train(replace(settings, out=settings.out + "-whole"))
    whole = load_file(uncut / "flexidepth.safetensors")

    class KilledError(Exception):
        pass

    def kill(self, args, state, control, **_):
        if state.global_step == 4:
            raise KilledError

    from transformers import DefaultFlowCallback

    with monkeypatch.context() as patch:
        patch.setattr(DefaultFlowCallback, "on_step_begin", kill)
        with pytest.raises(KilledError):
            training.train(settings)
    with pytest.raises(UsageError, match="go on with --resume"):
        training.train(settings)
    resumed = load_file(training.train(settings, resume=True) / "flexidepth.safetensors")
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    starts = [json.loads((Path(out) / "training.json").read_text())["start"] for out in (uncut, settings.out)]
    assert starts[0] == starts[1] != {}


def test_penalty_lowers_depth_and_ramps(settings):
    rows = training.train(replace(settings, skip_penalty=0.5, steps=60, warm_start_steps=2, learning_rate=3e-2))
    log = json.loads((rows / "training.json").read_text())["log"]
    assert [entry["penalty"] for entry in log[:3]] == pytest.approx([0.5 / 12 * k for k in (1, 2, 3)], abs=0.05)
    assert log[-1]["skip_loss"] < 0.5 * log[0]["skip_loss"]
    assert log[-1]["mean_layers_used"] < log[0]["mean_layers_used"]


def test_warm_start_fits_updates_and_centres_gates(settings):
    model, _ = starting_point.prepare(settings)
    rows = torch.randint(0, 256, (30, 4, 32), generator=torch.Generator().manual_seed(0))
    seen = []
    errors = warm_start.fit_adapters(model, list(rows), learning_rate=1e-2, report=lambda _, e: seen.append(sum(e)))
    assert seen[-1] < 0.97 * seen[0]
    assert len(errors) == 2
    gates = warm_start.centre_gates(model, rows[0], gate=0.88)
    assert gates == pytest.approx([0.88] * 2, abs=0.12), "fresh gates lie at 0.5"
    hidden, update = warm_start.base_updates(model, rows[0])[0]
    states = model(rows[0], routes="all", output_hidden_states=True).hidden_states
    torch.testing.assert_close(hidden, states[2])
    torch.testing.assert_close(hidden + update, states[3], atol=1e-5, rtol=1e-5)


def test_nothing_to_resume_is_said(settings):
    with pytest.raises(UsageError, match="leave --resume out"):
        training.train(settings, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "rl"},
        {"steps": 0},
        {"kl_fraction": 1.2},
        {"initial_gate": 1.0},
        {"skip_penalty": float("nan")},
        {"row_length": 1},
        {"rows": 2},
        {"sampled_gates": True},
        {"cost_steps": 4},
        {"keep_routers": True},
    ],
)
def test_settings_out_of_range_are_refused(settings, change):
    with pytest.raises(UsageError):
        replace(settings, **change)


def test_two_processes_take_the_steps_of_one_with_accumulation(settings, tmp_path):
    common = {"steps": 3, "batch_rows": 2, "kl_fraction": 1.0, "skip_penalty": 0.1, "penalty_ramp": 0.0, "rows": 12}
    common["hidden_cache"] = str(tmp_path / "hidden")  # made by one process first, read by all
    training.train(replace(settings, out=str(tmp_path / "one"), accumulation=2, **common))
    file = tmp_path / "settings.json"
    shared = asdict(replace(settings, out=str(tmp_path / "two"), **common))
    file.write_text(json.dumps(shared))
    # What accelerate launch starts on GPUs; on CPUs alone it would start one process.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "flexidepth", "train", "--settings", str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / name / "training.json").read_text())["log"] for name in ("one", "two"))
    assert len(one) == len(two) == 3
    for name in ("loss", "kl_loss", "skip_loss", "mean_layers_used", "grad_norm"):
        assert [entry[name] for entry in one] == pytest.approx([entry[name] for entry in two], rel=1e-3), name
