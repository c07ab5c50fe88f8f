"""Pictures and clips that a run left, inlined in the page as far as there is room for them, else linked."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

__all__ = ["Group", "Medium", "Room", "media_of", "pages_of"]

MAX_BYTES = 20_000_000
"""Of samples in one page; what does not fit is linked."""
MAX_FILES = 24
"""Of one folder on the page."""
MAX_NUMBERED_FOLDERS = 3
"""Of folders called 001, 002 and so on beside each other, such as those of `cosmos generate`: the newest."""
MAX_CAPTION = 4000
TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
MAX_PAGE_DEPTH = 2
"""Folders between a run and the pages that it wrote."""
ELSEWHERE = {"checkpoints", "launches", "logs", "wandb", "tensorboard"}
"""Folders of a run without samples."""
DRAWN = {"loss_curve.png"}
"""The page draws it itself."""
_STEP = re.compile(r"step_(\d+)")


@frozen
class Medium:
    """One file. href: a data URI, or the file's place beside the page. linked: whether it is the latter."""

    name: str
    is_video: bool
    href: str
    linked: bool
    caption: str = ""


@frozen
class Group:
    """The files of one folder. more: how many of them are not on the page."""

    title: str
    media: list[Medium]
    more: int = 0


class Room:
    """What is left of the page's bytes."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        self.left = most

    def takes(self, size: int) -> bool:
        """Whether a file of this size is inlined; if so it is counted."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


def media_of(run_dir: Path, page: Path, room: Room) -> list[Group]:
    """Samples of a run by folder. Of a series over the steps only the first and the last. page: where it is written."""
    groups = []
    for title, files in _by_folder(run_dir).items():
        # What is newest is inlined first; on the page one sample's states stand side by side, the oldest first.
        newest = sorted(files, key=lambda file: -_step_of(file))[:MAX_FILES]
        media = {file: _medium(file, page, room) for file in newest}
        order = sorted(media, key=lambda file: (_STEP.sub("", file.name), _step_of(file)))
        groups.append(Group(title, [media[file] for file in order], len(files) - len(media)))
    return groups


def _by_folder(run_dir: Path) -> dict[str, list[Path]]:
    """Files by the path of their folder below the run; ``step_<N>`` and folders beside it count as their parent."""
    groups: dict[str, list[Path]] = {}
    for path, names, files in os.walk(run_dir):
        folder = Path(path)
        names[:] = [name for name in _first_and_last(names) if name[0] != "."]
        older = sorted((name for name in names if name.isdecimal()), key=int)[:-MAX_NUMBERED_FOLDERS]
        names[:] = [name for name in names if name not in older]
        if folder == run_dir:
            names[:] = [name for name in names if name not in ELSEWHERE]
        place = folder.parent if _is_state(folder) else folder
        shown = [name for name in files if Path(name).suffix.lower() in TYPES and name[0] != "." and name not in DRAWN]
        if shown:
            title = place.relative_to(run_dir).as_posix()
            groups.setdefault(title, []).extend(folder / name for name in _first_and_last(shown))
    return dict(sorted(groups.items()))


def _is_state(folder: Path) -> bool:
    """Whether a folder holds one state of samples: that of a step, or the ground truth beside the steps."""
    return any(_STEP.fullmatch(sibling.name) for sibling in folder.parent.glob("step_*/"))


def _step_of(file: Path) -> int:
    """The step in a file's name, else in that of its folder; -1 without any."""
    match = _STEP.search(file.name) or _STEP.fullmatch(file.parent.name)
    return int(match[1]) if match else -1


def _first_and_last(names: list[str]) -> list[str]:
    """Sorted, without the middle of names that differ in their step alone, such as ``step_000000400.png``."""
    series: dict[str, list[str]] = {}
    for name in sorted(names):
        series.setdefault(_STEP.sub("step", name), []).append(name)
    return [name for same in series.values() for name in dict.fromkeys((same[0], same[-1]))]


def pages_of(run_dir: Path, page: Path) -> list[tuple[str, str]]:
    """Other pages that a run wrote: their path below it, and the link to it. page: where the links stand."""
    pages = []
    for path, names, files in os.walk(run_dir):
        depth = len(Path(path).relative_to(run_dir).parts)
        pages += [Path(path, name) for name in files if depth and name.endswith(".html")]
        if depth == MAX_PAGE_DEPTH:
            names.clear()
    pages.sort()
    return [(file.relative_to(run_dir).as_posix(), quote(os.path.relpath(file, page.parent))) for file in pages]


def _medium(file: Path, page: Path, room: Room) -> Medium:
    kind = TYPES[file.suffix.lower()]
    try:
        inline = room.takes(file.stat().st_size)
        content = base64.b64encode(file.read_bytes()).decode() if inline else ""
    except OSError:
        inline, content = False, ""
    place = quote(os.path.relpath(file, page.parent))
    step = _step_of(file)
    stem = _STEP.sub("", file.stem).strip("_")
    state = f"step {step}" if step >= 0 else file.parent.name.replace("_", " ") if _is_state(file.parent) else ""
    name = ", ".join(part for part in (stem, state) if part)
    href = f"data:{kind};base64,{content}" if inline else place
    return Medium(name, kind.startswith("video"), href, not inline, _caption(file))


def _caption(file: Path) -> str:
    """The text file beside a sample."""
    try:
        with file.with_suffix(".txt").open(encoding="utf-8", errors="replace") as text:
            return text.read(MAX_CAPTION).strip()
    except OSError:
        return ""
