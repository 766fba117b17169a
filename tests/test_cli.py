"""The command line as a person meets it: output, exit codes, one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flexidepth import cli
from flexidepth.cli import main
from flexidepth.settings import TrainingSettings, read_settings, settings_from
from flexidepth.trace import TokenStep


def test_generate_json_is_one_object_a_token_and_a_summary(tiny, capsys):
    assert main(["generate", "hello", "--model", tiny, "--max-new-tokens", "5", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [TokenStep.from_dict(line) for line in lines[:-1]]
    summary = lines[-1]["summary"]
    assert summary["tokens"] == len(steps) > 0
    assert summary["mean_layers_used"] == pytest.approx(sum(s.layers_used for s in steps) / len(steps))
    assert summary["num_layers"] == 4
    assert {"tokens_per_second", "stop"} <= set(summary)


def test_generate_prints_the_text_and_says_what_it_took(tiny, capsys):
    assert main(["generate", "hello", "--model", tiny, "--max-new-tokens", "4", "--routes", "all", "--raw"]) == 0
    captured = capsys.readouterr()
    assert "4.00 of 4 layers a token" in captured.err
    assert main(["generate", "hello", "--model", tiny, "--max-new-tokens", "4", "--routes", "all", "--raw"]) == 0
    assert capsys.readouterr().out == captured.out


def test_score_json(tiny, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Some text.\nMore of it.\n")
    assert main(["score", str(tmp_path / "text.txt"), "--model", tiny, "--routes", "none", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"tokens", "nll", "base_nll", "kl_to_base", "mean_layers_used", "per_layer_usage"} <= set(result)
    assert result["mean_layers_used"] == 2.0
    assert result["kl_to_base"] > 0


def test_train_and_use_the_result(base_dir, tmp_path, capsys):
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": f"line {i} of some text"}) for i in range(80)))
    small = [
        "--base",
        str(base_dir),
        "--steps",
        "2",
        "--batch-rows",
        "1",
        "--row-length",
        "16",
        "--warm-start-steps",
        "1",
    ]
    widths = ["--router-reduction-factor", "4", "--adapter-reduction-factor", "4", "--routed-layers", "1,3"]
    out = str(tmp_path / "out")
    assert (
        main(["train", "--data", str(data), "--out", out, *small, *widths, "--objective", "lm", "--checkpointing"])
        == 0
    )
    capsys.readouterr()
    assert main(["generate", "x", "--model", out, "--max-new-tokens", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[0])["gates"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", ""], "prompt is empty"),
        (["generate", "x" * 400], "the model reads 255 at most"),
        (["generate", "a\udcffb"], "not valid text at character 2"),
        (["generate", "x", "--threshold", "1.5"], "between 0 and 1"),
        (["generate", "x", "--threshold", "nan"], "between 0 and 1"),
        (["generate", "x", "--temperature", "nan"], "temperature"),
        (["generate", "x", "--temperature", "warm"], "--temperature"),
        (["generate", "x", "--max-new-tokens", "0"], "between 1 and 256"),
        (["generate", "x", "--max-new-tokens", "99999999999"], "between 1 and 256"),
        (["generate", "x", "--model", "gpt-9"], "smollm2-135m"),
        (["generate", "x", "--engine", "warp"], "engine 'warp'"),
        (["generate", "x", "--device", "tpu9"], "device 'tpu9'"),
        (["generate"], "PROMPT"),
        (["generate", "x", "--routes", "half"], "learned"),
        (["fly"], "generate"),
        (["score", "/no/such/file"], "no file at /no/such/file"),
        (["train"], "--out"),
        (["train", "--out", "x", "--steps", "-3"], "--steps must be at least 1"),
        (["train", "--out", "x", "--routed-layers", "all"], "15-29"),
    ],
)
def test_a_bad_request_is_exit_code_2_and_one_line(tiny, capsys, arguments, words):
    if arguments[0] == "generate" and "--model" not in arguments:
        arguments = [*arguments, "--model", tiny]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip().splitlines()[-1]
    assert words in line
    assert "Traceback" not in captured.err
    assert len([text for text in captured.err.splitlines() if text.startswith("error:")]) == 1


def test_standard_input_and_text_that_is_not_utf8(tiny):
    command = [sys.executable, "-m", "flexidepth", "generate", "-", "--model", tiny, "--max-new-tokens", "2"]
    done = subprocess.run(command, input="grüß".encode("latin-1"), capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().strip() == "error: standard input is not UTF-8 at byte 2: convert it to UTF-8"
    done = subprocess.run(command, input="grüß".encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [[], ["generate"], ["score"], ["train"]])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: python -m flexidepth" in capsys.readouterr().out


def bundled(capsys, *more):
    """Token objects of the bundled model's answer to one question."""
    assert main(["generate", "What is the capital of France?", "--json", *more]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()][:-1]


@pytest.mark.slow
def test_the_bundled_model_uses_between_15_and_30_layers(capsys):
    depths = [line["layers_used"] for line in bundled(capsys)]
    assert all(15 <= depth <= 30 for depth in depths)
    assert len(set(depths)) > 1
    whole = bundled(capsys, "--routes", "all")
    assert "Paris" in "".join(line["text"] for line in whole)
    assert {line["layers_used"] for line in whole} == {30}


@pytest.mark.slow
def test_the_bundled_model_knows_the_capital_of_france(capsys):
    assert "Paris" in "".join(line["text"] for line in bundled(capsys))


def test_a_settings_file_is_overridden_by_what_is_typed_alone(tmp_path):
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps({"steps": 7, "seed": 3, "routed_layers": [2, 3], "checkpointing": True}))
    options = cli._parser().parse_args(["train", "--settings", str(path), "--out", "x", "--seed", "0"])
    found = settings_from(TrainingSettings, read_settings(options.settings) | vars(options))
    assert found == TrainingSettings(out="x", steps=7, seed=0, routed_layers=(2, 3), checkpointing=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"step": 3}', "step, which is no setting"),
        ("[1]", "no object"),
        ("{", "is not JSON"),
        (None, "no settings at"),
    ],
)
def test_bad_settings_files_are_refused(tmp_path, capsys, content, words):
    path = tmp_path / "experiment.json"
    if content is not None:
        path.write_text(content)
    assert main(["train", "--settings", str(path), "--out", "x"]) == 2
    assert words in capsys.readouterr().err
