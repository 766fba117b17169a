"""The settings files that ship are settings, so that an experiment can be repeated by its file's name."""

from pathlib import Path

import pytest

from flexidepth.settings import TrainingSettings, read_settings, settings_from

EXPERIMENTS = sorted((Path(__file__).parent.parent / "analysis" / "experiments").glob("*.json"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_settings(path):
    given = {"out": "x", "start_from": "the stage before"}
    settings = settings_from(TrainingSettings, given | read_settings(path))
    assert settings.out == "x"


def test_there_are_experiments():
    assert EXPERIMENTS
