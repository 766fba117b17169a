"""What the page offers: entries from names alone, reasons that are true, and models that come and go with the room."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flexidepth
from flexidepth.errors import UsageError
from flexidepth.known_models import RELEASE, about, listed_names
from flexidepth.placement import GB, Room
from flexidepth.shelf import Shelf
from tests.released_layout import write_released


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Two released-layout directories, of 4 and of 6 layers."""
    write_released(tmp_path / "four")
    write_released(tmp_path / "six", num_hidden_layers=6, routed_layers=[2, 3, 4, 5])
    return [str(tmp_path / "four"), str(tmp_path / "six")]


def shelf_of(names: list[str], room: Callable[[], Room] = lambda: Room(100 * GB)) -> Shelf:
    return Shelf(names, flexidepth.load, room)


def test_the_list_holds_what_is_given_what_is_shipped_and_the_release_each_once() -> None:
    assert listed_names(["here"]) == ["here", "smollm2-135m", RELEASE]
    assert listed_names([RELEASE, "smollm2-135m"]) == [RELEASE, "smollm2-135m"]


def test_entries_tell_depth_and_threshold_before_anything_is_loaded(two: list[str], tiny: str) -> None:
    shelf = shelf_of([*two, tiny])
    four, six, ours = shelf.entries()
    assert (four.title, four.num_layers, four.always_on, four.threshold) == ("four", 4, 2, 0.5)
    assert (six.title, six.num_layers, six.always_on) == ("six", 6, 2)
    assert (ours.num_layers, ours.always_on, ours.note, ours.reason) == (4, 2, "", None)
    assert not any(shelf.is_loaded(entry.name) for entry in shelf.entries())
    for entry in (four, six, ours):
        model, _ = shelf.take(entry.name)
        assert (model.config.num_hidden_layers, model.config.always_on) == (entry.num_layers, entry.always_on)
        assert shelf.is_loaded(entry.name)
    assert shelf.entries() == (four, six, ours)
    assert shelf.take(two[0])[0] is shelf.take(None)[0]


def test_models_of_one_name_in_two_places_are_told_apart(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        write_released(tmp_path / parent / "model")
    names = [str(tmp_path / parent / "model") for parent in ("a", "b")]
    assert [entry.title for entry in shelf_of(names).entries()] == names


def test_what_does_not_fit_says_so_and_is_not_taken(two: list[str]) -> None:
    shelf = shelf_of(two, lambda: Room(GB // 2))
    for entry in shelf.entries():
        assert entry.reason is not None
        assert entry.reason.startswith("needs 1.0 GB of memory, 0.5 GB are free here")
    with pytest.raises(UsageError, match=r"six needs 1\.0 GB of memory"):
        shelf.take(two[1])


def test_the_least_recently_used_makes_room(two: list[str], tmp_path: Path) -> None:
    write_released(tmp_path / "third", seed=5)
    names = [*two, str(tmp_path / "third")]
    shelf: Shelf

    def room() -> Room:
        """As if two models filled the memory."""
        return Room(0 if sum(map(shelf.is_loaded, names)) == 2 else 9 * GB)

    shelf = Shelf(names, flexidepth.load, room)
    shelf._room_for_others = lambda: Room(9 * GB)  # type: ignore[method-assign]
    shelf.take(names[0])
    shelf.take(names[1])
    shelf.take(names[0])
    shelf.take(names[2])
    assert [shelf.is_loaded(name) for name in names] == [True, False, True]


def test_loaded_weights_that_are_copies_count_as_room_for_another(two: list[str]) -> None:
    shelf = shelf_of(two, lambda: Room(5, (7,)))
    assert shelf._room_for_others() == Room(5, (7,))
    loaded = flexidepth.load(two[0], "cpu")[0]
    stored = flexidepth.load(two[1], "cpu", "bfloat16")[0]
    shelf._loaded |= {two[0]: (loaded, None), two[1]: (stored, None)}
    copies = sum(4 * p.numel() for p in loaded.parameters())
    routers = sum(4 * p.numel() for name, p in stored.named_parameters() if ".router." in name)
    assert shelf._room_for_others() == Room(5 + copies + routers, (7,))


def test_names_that_are_not_served_are_refused(two: list[str]) -> None:
    with pytest.raises(UsageError, match="not served here: choose one of four, six"):
        shelf_of(two).take("seven")
    model: Any = torch.nn.Identity()
    assert Shelf.holding({"only": (model, None)}).take("whatever a trace says")[0] is model


def test_a_broken_model_says_why_and_loading_it_says_the_same(two: list[str]) -> None:
    next(Path(two[0]).glob("model-00002*")).unlink()
    shelf = shelf_of(two)
    reason = shelf.entries()[0].reason
    assert reason is not None
    assert "lacks model-00002-of" in reason
    assert about("no such thing").broken == "is no bundled model, no directory and no Hub id"


CHILD = """
import json, sys
from dataclasses import asdict
from flexidepth.known_models import RELEASE
from flexidepth.placement import GB, Room
from flexidepth.shelf import Shelf
shelf = Shelf(["other", RELEASE], lambda _: None, lambda: Room(int(sys.argv[1]) * GB), given=int(sys.argv[2]))
print(json.dumps(asdict(shelf.entries()[1])))
"""


@pytest.mark.parametrize(
    ("gigabytes", "given", "offline", "note", "reason"),
    [
        (64, 2, "", "downloads 16 GB first", None),
        (64, 1, "", "downloads 16 GB first", f"is not downloaded (16 GB): start with --model {RELEASE}"),
        (64, 1, "1", "downloads 16 GB first", "is not downloaded, and HF_HUB_OFFLINE forbids it: start without"),
        (9, 2, "1", "downloads 16 GB first", "needs 18.4 GB of memory, 9.0 GB are free here: free some, or use a"),
    ],
)
def test_the_release_is_known_before_it_is_here(
    tmp_path: Path, gigabytes: int, given: int, offline: str, note: str, reason: str | None
) -> None:
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline, "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", CHILD, str(gigabytes), str(given)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=120)
    entry = json.loads(done.stdout)
    assert (entry["title"], entry["num_layers"], entry["always_on"]) == (RELEASE.partition("/")[2], 32, 16)
    if not offline and (entry["reason"] or "").startswith("takes"):
        pytest.skip("this disk has no room for the release")
    assert entry["note"] == note
    assert (entry["reason"] or "").startswith(reason or "")
    assert (reason is None) == (entry["reason"] is None)
