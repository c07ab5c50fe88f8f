"""Whatever is in a user's file, reading it gives a result or one clear error, never a traceback.

`COSMOS_FUZZ=20000` (or `make fuzz`) runs that many cases over all kinds of files.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cosmos_core.config.problems import render
from cosmos_core.data import UnreadableSample
from cosmos_core.errors import UserError
from tests.fuzz.data_doors import data_doors
from tests.fuzz.doors import Door
from tests.fuzz.mutate import mutate, replace_file

CASES = int(os.environ.get("COSMOS_FUZZ", "1000"))
DOORS = {door.name: door for door in data_doors()}


def prepare(door: Door, folder: Path, chance: random.Random) -> None:
    """The door's files, one of them changed."""
    for name, content in door.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    names = [name for name in door.files if not name.endswith((".mp4", ".safetensors", ".png"))] or list(door.files)
    name = chance.choice(names if chance.random() < 0.9 else list(door.files))
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


@pytest.mark.parametrize("name", DOORS)
def test_a_damaged_file_is_read_or_refused_in_one_error(name: str, tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    door, seen = DOORS[name], Counter[str]()
    total = sum(door.weight for door in DOORS.values())
    failures: dict[str, int] = {}
    for case in range(max(1, CASES * door.weight // total)):
        folder = tmp_path / str(case) / "fuzzed"
        prepare(door, folder, random.Random(f"{name} {case}"))
        try:
            seen[outcome(door, folder)] += 1
        except BaseException as error:
            if os.environ.get("FUZZ_COLLECT"):
                import traceback

                key = "".join(traceback.format_exception(error)[-3:])[-700:]
                failures.setdefault(key, case)
                continue
            error.add_note(f"case {case} of '{name}'")
            raise
        shutil.rmtree(folder.parent)
    logging.disable(logging.NOTSET)
    print(name, dict(seen))
    for k, v in failures.items():
        print("CASE", v, k)
    assert not failures
    assert seen["UserError"] or door.weight == 1
