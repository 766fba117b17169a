"""Runs scored on one text: the record's penalty and seed, the score of the saved checkpoint."""

from __future__ import annotations

import json

import pytest

from analysis.__main__ import main
from analysis.curve import read_curve
from analysis.curve_points import make_curve
from flexidepth import checkpoint, scoring
from flexidepth.errors import UsageError
from tests.conftest import OWN


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(f"Line {number}: some text to read, as it comes." for number in range(12)))
    return path


def run(directory, base_dir, *, seed, penalty):
    """A directory as train leaves it."""
    checkpoint.save(checkpoint.from_base(base_dir, OWN), directory, base=str(base_dir))
    settings = {"target_depth": None, "steps": 9, "seed": seed}
    log = [{"penalty": 0.0}, {"penalty": penalty}]
    (directory / "training.json").write_text(json.dumps({"settings": settings, "log": log}))
    return directory


def test_points_are_the_runs_scores(tmp_path, base_dir, text):
    runs = [run(tmp_path / f"run{n}", base_dir, seed=n, penalty=n / 1000) for n in (1, 2)]
    told = []
    curve = make_curve(runs, runs[1:], text, report=lambda *step: told.append(step))
    assert [(point.penalty, point.seed, point.steps) for point in curve.points] == [(0.001, 1, 9), (0.002, 2, 9)]
    assert curve.seeds == curve.points[1:]
    assert told[-1] == (str(runs[1]), 12, 12)
    expected = scoring.score(*checkpoint.load(str(runs[0])), text)
    assert curve.points[0].kl_to_base == expected.kl_to_base
    assert curve.points[0].mean_layers_used == expected.mean_layers_used
    assert (curve.tokens, curve.num_layers) == (expected.tokens, expected.num_layers)
    assert curve.text == f"{tmp_path.name}/text.txt"


def test_a_directory_that_train_has_not_finished_is_refused_before_any_is_scored(tmp_path, base_dir, text):
    good = run(tmp_path / "good", base_dir, seed=1, penalty=0.1)
    with pytest.raises(UsageError, match="train has finished"):
        make_curve([good], [tmp_path], text, report=lambda *_: pytest.fail("scored"))


def test_the_command_writes_points_and_chart(tmp_path, base_dir, text, monkeypatch, capsys):
    made = run(tmp_path / "run", base_dir, seed=1, penalty=0.1)
    command = [
        "analysis",
        "curve",
        str(made),
        "--seeds",
        str(made),
        "--text",
        str(text),
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    curve = read_curve(tmp_path / "out" / "curve.json")
    assert len(curve.points) == len(curve.seeds) == 1
    assert (tmp_path / "out" / "curve.svg").read_text().startswith("<svg")
    assert "penalty alpha" in capsys.readouterr().out
