"""The manifest of a split, without its videos. Light: the checks before a run read it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import find_media
from cosmos_core.names import path_fault, text_fault
from cosmos_core.strict_json import loads
from cosmos_core.text_files import text_of
from cosmos_data_videophy.config import VideophyConfig

__all__ = ["Manifest", "find_splits", "manifest_file", "read_manifest"]

SPLITS = ("train", "val")
MAX_PROBLEMS = 10
"""Bad entries that one error lists."""


@frozen
class Manifest:
    """content: of the file. entries: key, video and conversation. categories: of the entries that have one, by key."""

    content: bytes
    entries: list[tuple[str, Path, Path]]
    categories: dict[str, str]


def manifest_file(config: VideophyConfig) -> Path:
    """The manifest of the configured split."""
    return _manifest(Path(config.path), config.split)


def find_splits(folder: Path) -> tuple[Path, list[str]]:
    """The root of a dataset, and which splits a folder holds, or is; none when it is something else."""
    folder = folder.resolve()
    own = [split for split in SPLITS if folder / "meta.json" == _manifest(folder.parent, split)]
    root = folder.parent if own else folder
    return root, [split for split in own or SPLITS if _manifest(root, split).is_file()]


def _manifest(root: Path, split: str) -> Path:
    return root / f"videophy2_{split}" / "meta.json"


def read_manifest(config: VideophyConfig) -> Manifest:
    """The manifest of the configured split. Raises UserError when it is bad, or names files that lie elsewhere."""
    path = manifest_file(config)
    if fault := path_fault(str(path)):
        problem = Problem(message=f"the path {fault}", key="dataloader_train.dataset.path")
        raise UserError("there can be no manifest; nothing was started", [problem])
    content, values = _values(path)
    entries: list[tuple[str, Path, Path]] = []
    categories: dict[str, str] = {}
    problems: list[Problem] = []
    for number, value in enumerate(values):
        try:
            entry = _entry(value, path.parent, config)
        except ValueError as error:
            problems.append(Problem(message=f"entry {number}{error}", file=str(path)))
            continue
        entries.append(entry)
        if value.get("category"):
            categories[entry[0]] = str(value["category"])
    if problems:
        title = f"{len(problems)} bad entries in {path}; nothing was started"
        rest = len(problems) - MAX_PROBLEMS
        more = [Problem(message=f"and {rest} more")] if rest > 0 else []
        raise UserError(title, [*problems[:MAX_PROBLEMS], *more])
    return Manifest(content, entries, categories)


def _values(path: Path) -> tuple[bytes, list[Any]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"no such file: {path}; nothing was started") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); nothing was started") from None
    try:
        values = loads(text_of(content, str(path)))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); nothing was started") from None
    if not isinstance(values, list) or not values:
        raise UserError(f"{path} must hold a list with at least one entry; nothing was started")
    return content, values


def _entry(value: Any, root: Path, config: VideophyConfig) -> tuple[str, Path, Path]:
    """Key, video and conversation. Raises ValueError, whose text follows the entry's number."""
    try:
        key = str(value["key"] if value.get("id") in (None, "") else value["id"])
        names = [value[name] for name in ("media", "conversation")]
        media, conversation = (find_media(name, root, root, config.media_roots) for name in names)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(" lacks id, media or conversation") from None
    except ValueError as error:
        raise ValueError(f": {error}") from None
    if fault := text_fault(key):
        raise ValueError(f": its id {key!r} {fault}")
    return key, media, conversation
