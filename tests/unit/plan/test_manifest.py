"""Damage of a checkpoint is found: missing, shortened and changed files, each by name."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from cosmos_core.errors import UserError
from cosmos_core.plan import manifest as manifest_module
from cosmos_core.plan.manifest import FileRecord, checksums, damage, verify, write_manifest

FILES = {"model/.metadata": b"m" * 50, "model/__0_0.distcp": bytes(range(256)) * 40, "dataloader/rank_0.pkl": b"p"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "iter_000000004"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder, {})
    return folder


def test_a_checkpoint_as_written_is_whole(checkpoint: Path) -> None:
    assert damage(checkpoint) == verify(checkpoint) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_shortened_file_is_found_without_reading_any(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(FILES[name] + b"more")
    assert [line.partition(" has ")[0] for line in damage(checkpoint)] == [name]
    (checkpoint / name).unlink()
    assert damage(checkpoint) == [f"{name} is missing"]


def test_one_changed_bit_anywhere_is_found_by_reading_and_remembered(checkpoint: Path) -> None:
    random = Random(0)
    for _ in range(60):
        name = random.choice(list(FILES))
        content = bytearray(FILES[name])
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        (checkpoint / name).write_bytes(content)
        assert damage(checkpoint) == [], "sizes are the same"
        assert verify(checkpoint) == damage(checkpoint) == [f"{name} holds other bytes than were written"]
        (checkpoint / name).write_bytes(FILES[name])
        assert verify(checkpoint) == damage(checkpoint) == [], "a file that was put back"


def test_a_checkpoint_that_is_written_again_while_it_is_read_is_not_called_damaged(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_again(folder: Path) -> object:
        before = checksums(folder)
        (folder / "model/.metadata").write_bytes(b"n" * 50)
        write_manifest(folder, {})
        return before

    with monkeypatch.context() as patched:
        patched.setattr(manifest_module, "checksums", written_again)
        with pytest.raises(UserError, match="was replaced while it was read"):
            verify(checkpoint)
    assert damage(checkpoint) == verify(checkpoint) == []


def test_checksums_taken_while_writing_are_believed(checkpoint: Path) -> None:
    name = "model/__0_0.distcp"
    write_manifest(checkpoint, {name: FileRecord(len(FILES[name]), "0" * 32)})
    assert damage(checkpoint) == []
    assert verify(checkpoint) == [f"{name} holds other bytes than were written"]


def test_a_checkpoint_from_before_manifests_has_no_known_damage(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()
    (checkpoint / "model/__0_0.distcp").unlink()
    assert damage(checkpoint) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        json.dumps({"format": 1, "files": []}),
        json.dumps({"format": 1, "files": {"model/.metadata": {"size": "x", "xxh3": ""}}}),
        json.dumps({"format": 1, "files": {"model/.metadata": {"size": 1}}}),
        json.dumps({"format": 1, "files": {"../../secret": {"size": 1, "xxh3": ""}}}),
    ],
)
def test_a_damaged_manifest_is_damage(checkpoint: Path, text: str) -> None:
    (checkpoint / "manifest.json").write_text(text)
    (line,) = damage(checkpoint)
    assert line.startswith("manifest.json cannot be read")
