"""Kept hidden states: equal to what the model computes, gone on with after a kill, refused when not this run's."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flexidepth import hidden_cache as module
from flexidepth.errors import TrainingError
from flexidepth.hidden_cache import hidden_cache

ROWS = np.random.default_rng(0).integers(0, 256, (70, 9)).astype(np.int32)


def kept(model, directory, rows=ROWS, batch_rows=4, **options):
    return hidden_cache(model, rows, directory, fingerprint="base", batch_rows=batch_rows, **options)


def test_a_pass_from_the_kept_states_equals_a_pass_from_the_ids(model, tmp_path):
    cache = kept(model, tmp_path / "hidden")
    row = {name: states.float().unsqueeze(0) for name, states in cache.row(5).items()}
    ids = torch.from_numpy(ROWS[5:6].astype(np.int64))
    whole = model(ids, with_teacher=True)
    half = model(
        inputs_embeds=row["hidden"],
        teacher_hidden_state=row["teacher_hidden_state"],
        first_layer=model.config.first_routed,
    )
    torch.testing.assert_close(half.logits, whole.logits, atol=2e-2, rtol=1e-2)
    torch.testing.assert_close(half.teacher_logits, whole.teacher_logits, atol=2e-2, rtol=1e-2)
    assert torch.equal(half.executed, whole.executed)
    # Rounding is shared: with every layer run, the student meets the teacher to the teacher's own rounding.
    unrouted = model(inputs_embeds=row["hidden"], first_layer=model.config.first_routed, routes="all")
    torch.testing.assert_close(unrouted.logits, half.teacher_logits, atol=5e-3, rtol=5e-3)


def test_a_killed_build_goes_on_where_it_was_and_a_second_run_computes_nothing(model, tmp_path, monkeypatch):
    whole = kept(model, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(done, _):
        if done == 68:
            raise KilledError

    with pytest.raises(KilledError):
        kept(model, tmp_path / "part", report=kill)
    told = []
    resumed = kept(model, tmp_path / "part", report=lambda done, _: told.append(done))
    assert told[0] == 64
    assert np.array_equal(whole.entered, resumed.entered)
    assert np.array_equal(whole.teacher, resumed.teacher)
    monkeypatch.setattr(module, "_states", None)
    assert np.array_equal(kept(model, tmp_path / "part").teacher, whole.teacher)


def test_states_of_other_rows_or_another_base_are_refused(model, tmp_path):
    kept(model, tmp_path)
    with pytest.raises(TrainingError, match=r"differs in rows\): choose another directory"):
        kept(model, tmp_path, rows=ROWS + 1)
    with pytest.raises(TrainingError, match="differs in base_fingerprint"):
        hidden_cache(model, ROWS, tmp_path, fingerprint="other", batch_rows=4)


def test_a_full_disk_is_said_before_anything_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(TrainingError, match="GB free: choose another disk"):
        kept(model, tmp_path / "hidden")
    assert not list((tmp_path / "hidden").iterdir())


def test_a_state_too_large_for_its_bits_is_said(model, tmp_path):
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1e6)
    with pytest.raises(TrainingError, match="--dtype bfloat16"):
        kept(model, tmp_path)
    assert kept(model.bfloat16(), tmp_path / "wide").row(0)["hidden"].dtype == torch.bfloat16
