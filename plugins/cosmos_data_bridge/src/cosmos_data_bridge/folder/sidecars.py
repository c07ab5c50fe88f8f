"""Clips, each with its caption in a file of the same name: `a.mp4` and `a.txt` or `a.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

from cosmos_core.data.files import check_links, files_below
from cosmos_core.errors import Problem, UserError
from cosmos_core.strict_json import loads
from cosmos_core.text_files import read_text
from cosmos_data_bridge.folder.entries import Entry, caption_fields, key_of, no_problems
from cosmos_data_bridge.folder.rows import TABLES

__all__ = ["CAPTIONS", "MEDIA", "pair", "sidecars"]

PICTURES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEOS = (
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv",
)  # fmt: skip
MEDIA = frozenset((*PICTURES, *VIDEOS))
CAPTIONS = (".json", ".txt")
"""Where a clip has both, the first is taken."""


def sidecars(root: Path) -> list[Entry]:
    """Every clip below `root` that has a caption. Raises UserError for clips without captions, and the reverse."""
    files = [path for path in files_below(root) if path.suffix.lower() in (*MEDIA, *CAPTIONS, *TABLES)]
    check_links(files)
    clips = {path: path for path in files if path.suffix.lower() in MEDIA}
    captions = {path: partial(read_text, path) for path in files if path.suffix.lower() in CAPTIONS}
    table = next((path for path in files if path.suffix.lower() in TABLES), None)
    advice = "" if table is None else f"; if {table} holds the captions, give that table and not the folder"
    return pair(clips, captions, root, "", advice)


def pair(
    clips: Mapping[Path, Path], captions: Mapping[Path, Callable[[], str]], root: Path, prefix: str, tables: str = ""
) -> list[Entry]:
    """Clips with the captions that are named after them; the names begin with `prefix`.

    Both are listed by where they come from, below `root`: a clip's file, and what reads a caption. tables: advice where
    they do not match. Raises UserError for clips without captions, the reverse, and captions that cannot be used.
    """
    if not clips:
        alone = f"; it has {len(captions)} captions without clips" if captions else ""
        hint = f"endings read: {' '.join(sorted(MEDIA))}"
        problem = Problem(message=f"no video and no picture below it{alone}", file=str(root), hint=hint)
        raise UserError(f"no clips in {root}", [problem])
    file_of, others = _matched(clips, captions)
    problems = [*(_missing(path) for path in clips if path not in file_of), *map(_alone, others)]
    entries = []
    for origin, path in clips.items():
        file = file_of.get(origin)
        if file is None:
            continue
        try:
            fields = _caption(captions[file](), file)
        except UserError as error:
            problems += error.problems
        else:
            entries.append(Entry(prefix + key_of(origin, root), path, fields, str(origin), str(file)))
    no_problems(problems, f"clips and captions in {root} do not match{tables}")
    return entries


def _matched(clips: Iterable[Path], captions: Iterable[Path]) -> tuple[dict[Path, Path], list[Path]]:
    """Each clip's caption, and the captions that belong to none.

    A letter with an accent may be written in two ways, as Macs do. Only files without a namesake are matched so.
    """
    by_name = {path.with_suffix(""): path for path in sorted(captions, reverse=True)}
    file_of = {clip: by_name[clip.with_suffix("")] for clip in clips if clip.with_suffix("") in by_name}
    used = {clip.with_suffix("") for clip in file_of}
    left = {_one_form(name): file for name, file in sorted(by_name.items()) if name not in used}
    for clip in clips:
        if clip not in file_of and (file := left.pop(_one_form(clip.with_suffix("")), None)):
            file_of[clip] = file
    taken = set(file_of.values())
    return file_of, [file for _, file in sorted(by_name.items()) if file not in taken]


def _one_form(name: Path) -> str:
    return normalize("NFC", str(name))


def _caption(text: str, file: Path) -> dict[str, Any]:
    """The caption fields in a `.txt` or `.json` file. Raises UserError with the file."""
    try:
        return caption_fields(loads(text) if file.suffix.lower() == ".json" else text.strip())
    except json.JSONDecodeError as error:
        problem = Problem(message=f"not JSON: {error.msg}", file=str(file), line=error.lineno)
    except ValueError as error:
        problem = Problem(message=str(error), file=str(file), line=1)
    raise UserError("a caption cannot be used", [problem])


def _missing(path: Path) -> Problem:
    name = path.with_suffix(".txt").name
    return Problem(message="no caption", file=str(path), hint=f"write it to {name}, or remove the clip")


def _alone(path: Path) -> Problem:
    hint = f"remove it, or add the clip; endings read: {' '.join(sorted(MEDIA))}"
    return Problem(message="a caption without a clip", file=str(path), hint=hint)
