"""The bench command: arguments in, contenders and prompts made of them, a table or JSON out. Measures nothing."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flexidepth.command_options import say
from flexidepth.errors import EngineError, UsageError

_TEXT = Path(__file__).parents[1] / "assets" / "passages.jsonl"
_ENGINES = ("cuda", "cpu", "cpu-int8", "reference")
_DEFAULTS = {"cpu": "cpu,cpu-int8,transformers", "cuda": "cuda,transformers"}
_REQUEST = "Write a long story about the following.\n\n"


def add_bench(commands: Any) -> None:
    command = commands.add_parser("bench", help="tokens a second of each engine, and of what others offer")
    subject = command.add_mutually_exclusive_group()
    subject.add_argument("--model", default="smollm2-135m", help="bundled name, directory or Hub id (%(default)s)")
    subject.add_argument(
        "--shape", type=Path, metavar="FILE", help="random weights in the shape that this config.json describes"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (%(default)s)")
    command.add_argument(
        "--engines",
        metavar="LIST",
        help=f"of {', '.join(_ENGINES)}, transformers, transformers-static (compiles, minutes) "
        f"({_DEFAULTS['cpu']}; on a GPU {_DEFAULTS['cuda']})",
    )
    command.add_argument(
        "--gguf",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also llama.cpp on this file; repeatable",
    )
    command.add_argument(
        "--contexts", default="128,1024", metavar="LIST", help="tokens before the first new one (%(default)s)"
    )
    command.add_argument("--tokens", type=int, default=48, metavar="N", help="in each answer (%(default)s)")
    command.add_argument("--rounds", type=int, default=5, metavar="N", help="answers of each row (%(default)s)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.set_defaults(command=_bench)


def _bench(options: argparse.Namespace) -> None:
    contexts = _whole_numbers(options.contexts)
    names = [name.strip() for name in (options.engines or "").split(",") if name.strip()]
    known = (*_ENGINES, "transformers", "transformers-static")
    for name in names:
        if name not in known:
            raise UsageError(f"--engines has no {name!r}: choose of {', '.join(known)}")
    for path in options.gguf:
        if not path.is_file():
            raise UsageError(f"no file at {path}: give --gguf a GGUF file")
    if options.tokens < 8 or options.rounds < 1:
        raise UsageError("--tokens must be at least 8 and --rounds at least 1")

    import torch
    from tqdm import tqdm
    from transformers.utils import logging

    from flexidepth.bench import measure, table
    from flexidepth.checkpoint import resolve_device

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = resolve_device(options.device)
    names = names or _DEFAULTS[torch.device(device).type].split(",")
    model, prompt = _subject(options, device)
    longest = max(contexts) + options.tokens
    if longest > model.config.max_position_embeddings:
        raise UsageError(
            f"the model reads {model.config.max_position_embeddings} tokens: lower --contexts or --tokens"
        )
    prompts = {context: prompt(context) for context in contexts}
    contenders = _contenders(names, options.gguf, model, prompts[contexts[0]], longest)
    with tqdm(total=len(contexts) * len(contenders) * (options.rounds + 1), unit="run", disable=None) as bar:
        result = measure(
            contenders,
            prompts,
            tokens=options.tokens,
            rounds=options.rounds,
            num_layers=model.config.num_hidden_layers,
            num_routed=model.config.num_routed,
            report=bar.update,
            device=device,
        )
    for name in result.refused:
        print(f"left out: {name} was to skip layers and skipped none", file=sys.stderr)
    machine = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(device),
        "threads": torch.get_num_threads(),
        "weights": f"random, in the shape of {options.shape.name}" if options.shape else options.model,
        "copy_gb_s": result.copy_gb_s,
        "versions": {
            package: found for package in ("torch", "transformers", "triton") if (found := _version(package))
        },
        "engines": {one.engine.name: one.engine.about for one in contenders if hasattr(one, "engine")},
    }
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in result.rows], "machine": machine}))
        return
    print(table(result.rows))
    print(f"{machine['processor']}, {machine['threads']} threads; a copy moves {result.copy_gb_s:.1f} GB/s")


def _contenders(names: list[str], gguf: list[Path], model: Any, ids: list[int], positions: int) -> list[Any]:
    """Static rows skip the layers that the routers run least for the first prompt, as many as they skip on average."""
    import torch

    from flexidepth.contenders import EngineContender, LlamaCppContender, TransformersContender
    from flexidepth.engines import choose_engine

    learned = choose_engine("reference", model, routes="learned", threshold=model.config.threshold)
    rates = learned.prefill(ids)[1].executed.float().mean(0).cpu()  # [R]
    skipped = rates.argsort()[: max(1, round(float((1 - rates).sum())))]
    mask = torch.ones(model.config.max_position_embeddings, model.config.num_routed, dtype=torch.bool)
    mask[:, skipped] = False
    routes: dict[str, Any] = {"vanilla": "vanilla", "all": "all", "learned": "learned", "static": mask, "none": "none"}
    found: list[Any] = []
    for name in names:
        if name == "transformers":
            found.append(TransformersContender(model))
        elif name == "transformers-static":
            found.append(TransformersContender(model, static=True))
        else:
            try:
                kinds = routes if name != "reference" else {key: routes[key] for key in ("all", "learned")}
                found += [EngineContender(f"{name} {kind}", model, name, route) for kind, route in kinds.items()]
            except EngineError as error:
                print(f"left out: {name} ({error})", file=sys.stderr)
    threads = torch.get_num_threads()
    return found + [LlamaCppContender(path, positions=positions, threads=threads) for path in gguf]


def _subject(options: argparse.Namespace, device: str) -> tuple[Any, Callable[[int], list[int]]]:
    """The model, and the prompt that it gets for a context."""
    if options.shape:
        import random

        from flexidepth.random_weights import random_model

        model = random_model(options.shape, device)
        vocabulary = range(model.config.vocab_size)
        return model, lambda context: random.Random(0).choices(vocabulary, k=context)
    from flexidepth.checkpoint import load

    model, tokenizer = load(options.model, device=device, progress=say)
    return model, lambda context: _prompt(tokenizer, context)


def _prompt(tokenizer: Any, context: int) -> list[int]:
    """Exactly `context` tokens: a request in the chat template about the bundled passages, cut in its middle."""
    text = "\n\n".join(json.loads(line)["text"] for line in _TEXT.read_text(encoding="utf-8").splitlines())
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": _REQUEST + text}], add_generation_prompt=True, return_dict=True
    )
    ids = list(encoded["input_ids"])
    end = ids[-8:]
    if len(ids) < context or context <= len(end):
        raise UsageError(f"--contexts {context} must lie between {len(end) + 1} and {len(ids)}")
    return ids[: context - len(end)] + end


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _whole_numbers(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UsageError(f"--contexts {text!r} must be whole numbers with commas between") from None


def _processor(device: str) -> str:
    """The model's name where the system tells it; of a GPU also its driver's version."""
    import torch

    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
        driver = Path("/proc/driver/nvidia/version")
        about = driver.read_text(encoding="utf-8").split("  ")[1] if driver.is_file() else "unknown"
        return f"{name}, driver {about}, CUDA {torch.version.cuda}"
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
