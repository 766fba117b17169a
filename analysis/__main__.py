"""python -m analysis: makes what others read out of recorded numbers. Loads no torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.card import write_card
from flexidepth.errors import FlexiDepthError, UsageError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    card = commands.add_parser(
        "card", help="README.md and loss curve of a checkpoint, from its training record and score"
    )
    card.add_argument("directory", type=Path, metavar="DIR")
    card.add_argument("--title", required=True)
    card.add_argument("--hardware", required=True, help="what the training ran on, in words")
    options = parser.parse_args()
    try:
        sys.stdout.write(f"{write_card(options.directory, options.title, options.hardware)}\n")
    except FlexiDepthError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
