"""The agree command: arguments in, a text file's documents fed to two engines, a few lines or JSON out."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from flexidepth.command_options import add_model, check_text, load_model
from flexidepth.errors import UsageError


def add_agree(commands: Any) -> None:
    command = commands.add_parser("agree", help="whether an engine decides and predicts as the reference engine does")
    command.add_argument("file", metavar="FILE", help="text, as score takes it; or held-out:DATA")
    add_model(command)
    command.add_argument("--engine", default="auto", metavar="E", help="auto, cuda, cpu or cpu-int8 (%(default)s)")
    command.add_argument("--tokens", type=int, default=2000, metavar="N", help="at most so many (%(default)s)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.set_defaults(command=_agree)


def _agree(options: argparse.Namespace) -> None:
    if options.tokens < 1:
        raise UsageError(f"--tokens must be at least 1, not {options.tokens}")
    check_text(options.file)
    model, tokenizer = load_model(options)
    from tqdm import tqdm

    from flexidepth.agreement import agreement
    from flexidepth.scoring import WINDOW, read_documents

    documents = [ids[:WINDOW] for ids in read_documents(options.file, tokenizer)]
    total = min(options.tokens, sum(map(len, documents)))
    with tqdm(total=total, unit="token", disable=None, file=sys.stderr) as bar:
        found = agreement(model, documents, engine=options.engine, tokens=options.tokens, report=bar.update)
    if options.json:
        print(json.dumps(asdict(found)))
        return
    apart = f", at gates up to {found.farthest_flip:.4f} from the threshold" if found.flips else ""
    print(
        f"{found.engine} ({found.about}) after {found.tokens} tokens:\n"
        f"{found.flips} of {found.decisions} decisions differ from the reference engine's{apart}\n"
        f"KL {found.kl:.2g} nats a token, logits up to {found.largest_logit_error:.2g} apart, "
        f"{found.same_likeliest:.1%} the same likeliest token"
    )
