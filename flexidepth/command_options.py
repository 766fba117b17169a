"""What several commands share: which model they take and how they load it. Computes nothing, and loads torch only to
load a model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flexidepth.errors import UsageError


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="smollm2-135m", help="bundled name, directory or Hub id (%(default)s)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (%(default)s)")
    command.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (%(default)s)")
    command.add_argument(
        "--force", action="store_true", help="accept a base model that the checkpoint was not trained on"
    )


def load_model(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model that `add_model`'s options name, and its tokenizer."""
    from transformers.utils import logging

    from flexidepth.checkpoint import load

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return load(options.model, options.device, options.dtype, force=options.force, progress=say)


def check_text(file: str) -> None:
    """Raises UsageError, before a model is loaded, for text that is not there."""
    if not file.startswith("held-out:") and not Path(file).is_file():
        raise UsageError(f"no file at {file}: give a text file with one document a line, or JSON lines")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
