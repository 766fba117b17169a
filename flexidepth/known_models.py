"""What a name says about a model before it is loaded: its configuration, what it takes, what must be fetched first.

Reads configurations, and headers of weight files, in directories and caches; loads no weight and uses no network.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from transformers import LlamaConfig

from flexidepth import base_models
from flexidepth.checkpoint import BUNDLED_CHECKPOINTS, CARD_FILE, CheckpointCard
from flexidepth.configuration import FlexiDepthConfig
from flexidepth.errors import FlexiDepthError, UsageError
from flexidepth.placement import GB, Need
from flexidepth.released import base_config
from flexidepth.shards import check_shards

RELEASE = "xuan-luo/FlexiDepth-Llama-3-8B-Instruct"
_RELEASE_SHAPE = BUNDLED_CHECKPOINTS.parent / "shapes" / "llama-3-8b.json"


@dataclass(frozen=True)
class About:
    """config, need: None when they cannot be known without fetching the model. download: bytes to fetch first, None
    when it is not known how many. broken: what keeps it from being loaded at all.
    """

    config: FlexiDepthConfig | None = None
    need: Need | None = None
    download: int | None = 0
    broken: str | None = None


def listed_names(given: list[str]) -> list[str]:
    """The models a page offers, each once: those given, those in this repository, the authors' release."""
    bundled = sorted(card.parent.name for card in BUNDLED_CHECKPOINTS.glob(f"*/{CARD_FILE}"))
    return list(dict.fromkeys([*given, *bundled, RELEASE]))


def title_of(name: str) -> str:
    """A Hub id without its owner, a directory without its parents, any other name as it is."""
    return Path(name).name if base_models.HUB_ID.fullmatch(name) or Path(name).is_dir() else name


def about(name: str) -> About:
    """Raises nothing: what is wrong with a model is part of the answer."""
    try:
        directory = BUNDLED_CHECKPOINTS / name if (BUNDLED_CHECKPOINTS / name / CARD_FILE).is_file() else Path(name)
        if directory.is_dir():
            return _in_directory(directory)
        if base_models.HUB_ID.fullmatch(name):
            return _on_the_hub(name)
        return About(broken="is no bundled model, no directory and no Hub id")
    except FlexiDepthError as error:
        return About(broken=f"cannot be read: {error}")


def _in_directory(directory: Path) -> About:
    if not (directory / CARD_FILE).is_file():
        return _complete(directory)
    card = CheckpointCard.read(directory)
    base, missing = _base(card.base)
    if base is None:
        return About(download=missing)
    config = FlexiDepthConfig.from_base(base, **card.config)
    return About(config, Need.of(config), missing)


def _complete(directory: Path) -> About:
    """A directory that holds every weight."""
    config: Any = base_config(directory)
    if not isinstance(config, FlexiDepthConfig):
        raise UsageError(f"it is a plain {config.model_type} model without routers")
    check_shards(directory)
    return About(config, Need.of(config))


def _base(name: str) -> tuple[LlamaConfig | None, int | None]:
    """A base model's configuration, and how many bytes of it must be fetched."""
    if base := base_models.BUNDLED.get(name):
        prepared = base_models.cache_directory() / base.name
        if (prepared / base_models.MANIFEST).is_file():
            return base_config(prepared), 0
        return None, base.size
    if Path(name).is_dir():
        return base_config(Path(name)), 0
    found = _snapshot(name)
    return (base_config(found), 0) if found else (None, None)


def _on_the_hub(name: str) -> About:
    if found := _snapshot(name):
        return _in_directory(found)
    # The configuration may be there without the weights; the release's is known.
    cached = try_to_load_from_cache(name, "config.json")
    config: Any = base_config(Path(cached).parent) if isinstance(cached, str) else None
    if name == RELEASE and config is None:
        config = base_config(_RELEASE_SHAPE)
    if not isinstance(config, FlexiDepthConfig):
        return About(download=None, broken=_offline())
    need = Need.of(config)
    fetched = need.weights
    free = shutil.disk_usage(_existing(Path(constants.HF_HUB_CACHE))).free
    short = None
    if free < fetched:
        short = (
            f"takes {fetched / GB:.0f} GB of disk to download, {free / GB:.0f} GB are free: free some, or set HF_HOME"
        )
    return About(config, need, fetched, _offline() or short)


def _offline() -> str | None:
    return "is not downloaded, and HF_HUB_OFFLINE forbids it: start without" if constants.HF_HUB_OFFLINE else None


def _snapshot(repository: str) -> Path | None:
    """A whole model in the Hub's cache."""
    try:
        found = Path(snapshot_download(repository, local_files_only=True))
        if not (found / CARD_FILE).is_file():
            check_shards(found)
    except (LocalEntryNotFoundError, HFValidationError, FlexiDepthError):
        return None
    return found


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())
