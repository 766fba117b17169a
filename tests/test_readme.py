"""What the README promises: its commands parse, its code runs, its files exist, its pins are the installed ones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from analysis.__main__ import _parser as analysis_parser
from flexidepth.cli import _parser as flexidepth_parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_front_matter_makes_a_space():
    matter = dict(re.findall(r"^(\w+): (.+)$", TEXT.split("---")[1], flags=re.MULTILINE))
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert matter["sdk"] == "gradio"
    assert matter["sdk_version"] == pins["gradio"]
    assert (ROOT / matter["app_file"]).is_file()
    assert matter["license"] == "apache-2.0"


PARSERS = {"flexidepth": flexidepth_parser, "analysis": analysis_parser}
COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("python -m")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    _, _, package, *arguments = shlex.split(command, comments=True)
    options = PARSERS[package]().parse_args(arguments)
    assert callable(options.command)


def test_there_are_commands():
    assert len(COMMANDS) >= 6


def tree_names() -> list[str]:
    """Paths of the README's tree; an indented line belongs to the directory above it."""
    tree = re.search(r"```\n(app\.py.*?)```", TEXT, flags=re.DOTALL)
    assert tree is not None
    names, directory = [], ""
    for line in tree[1].splitlines():
        listed = re.match(r"( *)((?:[\w.-]+/?(?:[\w.-]+/?)* )+) ", f"{line}  ")
        assert listed is not None, line
        own = listed[2].split()
        if listed[1]:
            names += [f"{directory}{name}" for name in own]
        else:
            directory = own[0] if own[0].endswith("/") else ""
            names += own[:1] + [f"{Path(own[0]).parent}/{name}" for name in own[1:]]
    return names


def test_named_files_exist():
    linked = re.findall(r"\]\(((?:assets|flexidepth|analysis)/[^)]+)\)", TEXT)
    for name in linked + tree_names():
        assert (ROOT / name).exists(), name


def test_tree_names_every_module():
    named = set(tree_names())
    for package in ("flexidepth", "analysis"):
        for path in (ROOT / package).glob("*.py"):
            assert path.name.startswith("__") or f"{package}/{path.name}" in named, path.name


@pytest.mark.slow
def test_python_runs(capsys):
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert " layers, p = " in printed


def table_rows(*starts: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith(starts)]


def test_the_table_of_the_large_shape_is_the_benchmark_that_is_shipped():
    result = json.loads((ROOT / "assets/benchmarks/llama-3-8b-cpu.json").read_text(encoding="utf-8"))
    rows = {row["name"].replace("cpu", "8B"): row for row in result["rows"]}
    assert result["machine"]["weights"] == "random, in the shape of llama-3-8b.json"
    shown = table_rows("| 8B")
    assert [name for name, *_ in shown] == list(rows)
    for name, layers, time, own in shown:
        row = rows[name]
        assert (layers, time) == (f"{row['mean_layers_used']:.2f}", f"{row['ms_p50']:.0f}")
        assert own == f"{row['over_vanilla']:.2f} ({row['byte_ideal']:.2f})"


def test_the_speed_table_is_the_benchmark_that_is_shipped():
    result = json.loads((ROOT / "assets/benchmarks/cpu.json").read_text(encoding="utf-8"))
    rows = {(row["name"], row["context"]): row for row in result["rows"]}
    shown = table_rows("| cpu", "| reference", "| transformers", "| llama.cpp")
    assert len(shown) == 16
    for name, layers, speed, own, theirs, first, late_speed, late_first in shown:
        row, late = rows[name, 128], rows[name, 1024]
        assert layers == f"{row['mean_layers_used']:.2f}"
        assert (speed, late_speed) == (f"{row['tokens_per_second']:.1f}", f"{late['tokens_per_second']:.1f}")
        assert (first, late_first) == (f"{row['first_token_ms']:.0f} ms", f"{late['first_token_ms']:.0f} ms")
        assert theirs == f"{row['over_transformers']:.2f}"
        if own != "-":
            assert own == f"{row['over_vanilla']:.2f} ({row['byte_ideal']:.2f})"
