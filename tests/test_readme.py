"""What the README promises: its commands parse, its code runs, its files exist, its pins are the installed ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from flexidepth.cli import _parser

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


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("python -m flexidepth")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    options = _parser().parse_args(shlex.split(command, comments=True)[3:])
    assert callable(options.command)


def test_there_are_commands():
    assert len(COMMANDS) >= 6


def test_named_files_exist():
    names = re.findall(r"\]\(((?:assets|flexidepth|analysis)/[^)]+)\)", TEXT)
    tree = re.search(r"```\n(app\.py.*?)```", TEXT, flags=re.DOTALL)[1]
    package = re.findall(r"^  ((?:[\w/]+(?:\.py|/) ?)+)", tree, flags=re.MULTILINE)
    names += [f"flexidepth/{name}" for line in package for name in line.split()]
    names += re.findall(r"^(\w[\w/.]*)", tree, flags=re.MULTILINE)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_python_runs(capsys):
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert " layers, p = " in printed
