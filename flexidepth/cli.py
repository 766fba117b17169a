"""The command line: arguments in, calls to the library, text or JSON out. Decides exit codes; computes nothing.

0 is success, 1 a failure outside the request (a download, a file that breaks off), 2 a request that cannot be carried
out. Torch is imported after the arguments are known to be good, so that --help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from flexidepth.agree_command import add_agree
from flexidepth.bench_command import add_bench
from flexidepth.command_options import add_model, check_text, load_model
from flexidepth.errors import FlexiDepthError, UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse would print its whole usage first; one line that names the fix is enough."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(error, 2)
    except FlexiDepthError as error:
        return _fail(error, 1)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(error: FlexiDepthError, code: int) -> int:
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m flexidepth", description="Models in which every token decides which layers it runs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_generate(commands)
    _add_score(commands)
    _add_train(commands)
    _add_write(commands)
    add_bench(commands)
    add_agree(commands)
    return parser


def _add_generate(commands: Any) -> None:
    command = commands.add_parser("generate", help="answer a prompt and say which layers each token used")
    command.add_argument("prompt", metavar="PROMPT", help="the prompt, or - to read it from standard input")
    add_model(command)
    command.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="%(default)s")
    command.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (%(default)s)"
    )
    command.add_argument("--top-p", type=float, default=1.0, metavar="P", help="nucleus sampling (%(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="%(default)s")
    command.add_argument(
        "--threshold", type=float, metavar="X", help="a gate above it runs its layer (the checkpoint's)"
    )
    command.add_argument("--routes", choices=("learned", "all", "none"), default="learned", help="%(default)s")
    command.add_argument(
        "--engine",
        default="auto",
        metavar="E",
        help="auto, cuda, cpu, cpu-int8 (8-bit weights) or reference (%(default)s)",
    )
    command.add_argument("--raw", action="store_true", help="give the prompt as it is, without the chat template")
    command.add_argument("--json", action="store_true", help="one JSON object a token, then a summary")
    command.set_defaults(command=_generate)


def _generate(options: argparse.Namespace) -> None:
    prompt = _prompt(options.prompt)
    model, tokenizer = load_model(options)
    from flexidepth.engines import make_ready
    from flexidepth.generation import start
    from flexidepth.trace import step_line, summarize, summary_line

    engine = make_ready(options.engine, model)
    header, steps = start(
        model,
        tokenizer,
        prompt,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        chat=not options.raw,
        threshold=options.threshold,
        routes=options.routes,
        engine=options.engine,
    )
    seen = []
    for step in steps:
        seen.append(step)
        print(step_line(step) if options.json else step.text, end="\n" if options.json else "", flush=True)
    if options.json:
        print(summary_line(header, seen))
        return
    summary = summarize(header, seen)
    rate = summary["tokens_per_second"]
    print(
        f"\n{summary['tokens']} tokens, {summary['mean_layers_used']:.2f} of {summary['num_layers']} layers a token, "
        f"{f'{rate:.1f} tokens/s, ' if rate else ''}stopped by {summary['stop']}; engine {engine}",
        file=sys.stderr,
    )


def _prompt(argument: str) -> str:
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 at byte {error.start}: convert it to UTF-8") from None


def _add_score(commands: Any) -> None:
    command = commands.add_parser("score", help="nll, KL to the base model and layers used on a text file")
    command.add_argument(
        "file",
        metavar="FILE",
        help='one document a line, or JSON lines with "text" or "messages"; or held-out:DATA, text kept from training',
    )
    add_model(command)
    command.add_argument(
        "--routes",
        choices=("learned", "all", "none", "random", "static", "static-equal"),
        default="learned",
        help="random and static are controls: the learned rates or depth, without a choice by token; static-equal "
        "skips one more layer than static for so many tokens that the depth is the learned one (%(default)s)",
    )
    command.add_argument(
        "--threshold", type=float, metavar="X", help="a gate above it runs its layer (the checkpoint's)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of random routes (%(default)s)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.set_defaults(command=_score)


def _score(options: argparse.Namespace) -> None:
    check_text(options.file)
    model, tokenizer = load_model(options)
    from tqdm import tqdm

    from flexidepth.scoring import score

    with tqdm(unit="pass", disable=None, file=sys.stderr) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = score(
            model,
            tokenizer,
            options.file,
            routes=options.routes,
            threshold=options.threshold,
            seed=options.seed,
            report=report,
        )
    if options.json:
        print(json.dumps(asdict(result)))
        return
    print(
        f"{result.tokens} tokens in {result.documents} documents\n"
        f"nll {result.nll:.4f} (base {result.base_nll:.4f}, {result.nll / result.base_nll - 1:+.1%}), "
        f"KL to base {result.kl_to_base:.4f} nats a token\n"
        f"layers used {result.mean_layers_used:.2f} of {result.num_layers}, "
        f"standard deviation {result.std_layers_used:.2f}"
    )


def _add_train(commands: Any) -> None:
    from flexidepth.settings import TrainingSettings, options_of

    command = commands.add_parser("train", help="train routers and adapters on a frozen base model")
    command.add_argument(
        "--settings", type=Path, metavar="FILE", help="JSON file with any of the settings below; options win over it"
    )
    for option in options_of(TrainingSettings):
        command.add_argument(option.flag, default=argparse.SUPPRESS, **option.arguments)
    command.add_argument("--resume", action="store_true", help="go on from the last saved state in --out")
    command.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> None:
    from flexidepth.settings import TrainingSettings, read_settings, settings_from

    given = read_settings(options.settings) if options.settings else {}
    settings = settings_from(TrainingSettings, given | vars(options))
    from flexidepth.training import train

    out = train(settings, resume=options.resume)
    from accelerate import PartialState

    state = PartialState()
    if state.is_main_process:
        print(out)
    state.wait_for_everyone()
    state.destroy_process_group()  # left to the interpreter's end, its threads may abort the process


def _add_write(commands: Any) -> None:
    command = commands.add_parser(
        "write", help="training text of one's own: conversations that the model writes itself"
    )
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines; what is there stays")
    messages = command.add_mutually_exclusive_group(required=True)
    messages.add_argument("--messages", type=Path, metavar="FILE", help="user messages to answer, one a line")
    messages.add_argument("--count", type=int, metavar="N", help="so many messages, which the model makes up too")
    messages.add_argument(
        "--tasks", type=int, metavar="N", help="so many prompts of the six tasks, about paragraphs that --out holds"
    )
    command.add_argument(
        "--routes", choices=("all", "learned"), default="all", help="all: the base model answers (%(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="%(default)s")
    add_model(command)
    command.set_defaults(command=_write)


def _write(options: argparse.Namespace) -> None:
    for name in ("count", "tasks"):
        wanted = getattr(options, name)
        if wanted is not None and wanted < 1:
            raise UsageError(f"--{name} must be at least 1, not {wanted}")
    from tqdm import tqdm

    from flexidepth.data import task_prompts
    from flexidepth.self_written import answered, imagined, line_of, read_messages, read_passages

    given = None if options.messages is None else read_messages(options.messages)
    if options.tasks is not None:
        given = list(islice(task_prompts(options.seed, read_passages(options.out)), options.tasks))
    try:
        file = options.out.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written ({error.strerror}): choose another --out") from None
    with file:
        model, tokenizer = load_model(options)
        messages = list(imagined(model, tokenizer, options.count, seed=options.seed)) if given is None else given
        with tqdm(total=len(messages), unit="answer", disable=None) as bar:
            for conversation in answered(
                model, tokenizer, messages, seed=options.seed, routes=options.routes, report=bar.update
            ):
                file.write(line_of(conversation))
                file.flush()
    print(options.out)
