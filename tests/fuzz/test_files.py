"""Whatever is in a user's file, reading it gives a result or one clear error, never a traceback.

`COSMOS_FUZZ=20000` (or `make fuzz`) runs that many cases over all kinds of files.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cosmos_core.config.problems import render
from cosmos_core.data import UnreadableSample
from cosmos_core.errors import UserError
from tests.fuzz.data_doors import data_doors
from tests.fuzz.doors import Door
from tests.fuzz.model_doors import model_doors
from tests.fuzz.mutate import mutate, replace_file
from tests.fuzz.run_doors import run_doors

CASES = int(os.environ.get("COSMOS_FUZZ", "800"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings of thousands of damaged files."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Door]:
    folder = tmp_path_factory.mktemp("valid")
    return {door.name: door for door in (*data_doors(), *model_doors(folder), *run_doors(folder))}


def write(door: Door, folder: Path) -> None:
    """The door's files."""
    for name, content in door.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def change(door: Door, folder: Path, chance: random.Random) -> None:
    """One of the door's files is another; texts more often than media."""
    texts = [name for name in door.files if not name.endswith((".mp4", ".safetensors", ".png"))]
    name = chance.choice(texts if texts and chance.random() < 0.9 else list(door.files))
    if chance.random() < 0.07:
        replace_file(folder / name, chance)
    else:
        (folder / name).write_bytes(mutate(door.files[name], name, chance))


def outcome(door: Door, folder: Path) -> str:
    try:
        door.enter(folder)
    except UserError as error:
        text = render(error)
        assert "weights_only" not in text
        assert "Traceback" not in text
        assert len(text) < 20_000
        text.encode()
        return "UserError"
    except UnreadableSample:
        return "UnreadableSample"
    return "read"


def test_every_file_is_read_while_it_is_whole(doors: Mapping[str, Door], tmp_path: Path) -> None:
    for door in doors.values():
        folder = tmp_path / door.name / "fuzzed"
        write(door, folder)
        assert outcome(door, folder) == "read", door.name


def test_a_damaged_file_is_read_or_refused_in_one_error(doors: Mapping[str, Door], tmp_path: Path) -> None:
    seen = {name: Counter[str]() for name in doors}
    tracebacks: dict[str, str] = {}
    total = sum(door.weight for door in doors.values())
    for door in doors.values():
        for case in range(max(1, CASES * door.weight // total)):
            folder = tmp_path / f"{door.name} {case}" / "fuzzed"
            write(door, folder)
            change(door, folder, random.Random(f"{door.name} {case}"))
            try:
                seen[door.name][outcome(door, folder)] += 1
            except BaseException as error:  # All kinds of them are told at once.
                if isinstance(error, KeyboardInterrupt):
                    raise
                tracebacks.setdefault("".join(traceback.format_exception(error)[-3:]), f"{door.name} {case}")
            shutil.rmtree(folder.parent)
    for name, counts in seen.items():
        print(f"{name}: {dict(counts)}")
    print(f"altogether: {dict(sum(seen.values(), Counter()))}")
    assert not tracebacks, "\n".join(f"{case}: {text}" for text, case in tracebacks.items())
    assert all(counts["UserError"] for counts in seen.values())
