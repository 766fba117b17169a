"""The models of a page: which ones this machine can run, and those that are loaded.

Knows memory and names; knows neither how a model is loaded nor who asks for one.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch

from flexidepth.errors import UsageError
from flexidepth.known_models import About, about, title_of
from flexidepth.model_entry import ModelEntry
from flexidepth.placement import GB, Room, place, shortage

Load = Callable[[str], tuple[Any, Any]]


class Shelf:
    """Models by name, the first one for whoever does not choose. `take` is for one caller at a time, the rest is not.

    load: brings a model and its tokenizer. given: how many of the names, from the first on, the server was started
    with; the others are offered only where nothing is left to download. room: what is free at this moment.
    """

    def __init__(
        self, names: Sequence[str], load: Load, room: Callable[[], Room] = Room.here, *, given: int | None = None
    ) -> None:
        self._names = tuple(names)
        self._given = self._names[:given]
        self._load = load
        self._room = room
        self._loaded: OrderedDict[str, tuple[Any, Any]] = OrderedDict()  # the least recently used first
        self._known: dict[str, About] = {}

    @classmethod
    def holding(cls, loaded: Mapping[str, tuple[Any, Any]]) -> Self:
        """Models that are loaded already, and no others."""
        shelf = cls(list(loaded), loaded.__getitem__, lambda: Room(0))
        shelf._loaded.update(loaded)
        return shelf

    @property
    def first(self) -> str:
        return self._names[0]

    def entries(self) -> tuple[ModelEntry, ...]:
        """All of them, as they stand at this moment."""
        room = self._room_for_others()
        return tuple(self._entry(name, room) for name in self._names)

    def title(self, name: str | None) -> str:
        """A short name that no other model here has."""
        name = self._found(name)
        short = title_of(name)
        return name if [title_of(other) for other in self._names].count(short) > 1 else short

    def is_loaded(self, name: str | None) -> bool:
        return self._found(name) in self._loaded

    def take(self, name: str | None) -> tuple[Any, Any]:
        """The model and its tokenizer, loaded now if need be; the least recently used ones are let go while there is
        no room for it. Raises UsageError for a model that is not here or cannot run, and what loading raises.
        """
        name = self._found(name)
        if name not in self._loaded:
            refusal = self._refusal(name, self._room_for_others())
            if refusal is not None:  # before anything is let go for it
                raise UsageError(f"{self.title(name)} {refusal}")
            while self._loaded and not self._fits(name):
                self._loaded.popitem(last=False)
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            self._loaded[name] = self._load(name)
            self._known.pop(name, None)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _found(self, name: str | None) -> str:
        if name is None or len(self._names) == 1:
            return self.first
        if name not in self._names:
            raise UsageError(
                f"the model {name} is not served here: choose one of {', '.join(map(title_of, self._names))}"
            )
        return name

    def _entry(self, name: str, room: Room) -> ModelEntry:
        held = self._loaded.get(name)
        if held is not None:
            return ModelEntry.described(name, self.title(name), held[0].config)
        known = self._about(name)
        note = "" if known.download == 0 else f"downloads {_size(known.download)} first"
        reason = self._refusal(name, room) or known.broken
        return ModelEntry.described(name, self.title(name), known.config, note=note, reason=reason)

    def _refusal(self, name: str, room: Room) -> str | None:
        """Why a model that is whole cannot be had here all the same."""
        known = self._about(name)
        if known.need is not None and place(known.need, room) is None:
            return shortage(known.need, room)
        if known.download != 0 and known.broken is None and name not in self._given:  # no visitor fills the disk
            return f"is not downloaded ({_size(known.download)}): start with --model {name}"
        return None

    def _about(self, name: str) -> About:
        """What is broken or not downloaded may have changed since; the rest stays."""
        known = self._known.get(name)
        if known is None or known.broken or known.download != 0:
            self._known[name] = known = about(name)
        return known

    def _fits(self, name: str) -> bool:
        """Whether it has room as things are, on a GPU where there is one."""
        need, room = self._about(name).need, self._room()
        found = place(need, room) if need else None
        return need is None or (found is not None and (not room.gpus or found.device.startswith("cuda")))

    def _room_for_others(self) -> Room:
        """What is free, and what would be if no model were loaded."""
        host = gpu = 0
        for name, (model, _) in list(self._loaded.items()):
            if isinstance(model, torch.nn.Module):
                stored = getattr(self._about(name).config, "dtype", None)  # that of a loaded one is what it is held in
                for parameter in model.parameters():
                    size = parameter.numel() * parameter.element_size()
                    gpu += size * parameter.is_cuda
                    # Weights as they are stored stay mapped files, whose pages count as free memory.
                    host += size * (parameter.device.type == "cpu" and parameter.dtype != stored)
        return self._room().and_also(host, gpu)


def _size(download: int | None) -> str:
    if download is None:
        return "an unknown number of bytes"
    return f"{download / GB:.0f} GB" if download >= GB else f"{download / 1e6:.0f} MB"
