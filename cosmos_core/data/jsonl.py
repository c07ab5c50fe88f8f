"""The video SFT format: one JSON object a line, each a clip with captioned windows (docs/data.md, Captioned clips)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

from attrs import frozen

from cosmos_core.data.text_files import as_utf8
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.hub.containment import find_media
from cosmos_core.names import text_fault

__all__ = ["ClipFilter", "ClipIndex", "ClipRecord", "Window", "captions_of", "read_clips"]

MAX_PROBLEMS = 10
"""Bad lines that one error lists."""


@frozen
class Window:
    """A captioned range of frames; `end` is inclusive. index: its place in the record."""

    index: int
    start: int
    end: int
    interval: int

    @property
    def frames(self) -> int:
        """Frames in the window."""
        return self.end - self.start + 1


@frozen
class ClipRecord:
    """One record without its captions, which are read when the sample is."""

    uuid: str
    path: Path
    width: int
    height: int
    duration: float
    windows: tuple[Window, ...]
    file: Path
    offset: int
    length: int


@frozen
class ClipFilter:
    """Which clips and windows are left out; each is counted by its reason."""

    max_duration: float
    min_short_edge: int
    min_window_frames: int

    def apply(self, clip: ClipRecord, dropped: Counter[str]) -> ClipRecord | None:
        """The clip with its usable windows, or None."""
        if clip.duration > self.max_duration:
            dropped[f"longer than {self.max_duration:g} s"] += 1
            return None
        if min(clip.width, clip.height) < self.min_short_edge:
            dropped[f"short edge under {self.min_short_edge} pixels"] += 1
            return None
        windows = tuple(window for window in clip.windows if window.frames >= self.min_window_frames)
        if not windows:
            dropped[f"no window of at least {self.min_window_frames} frames"] += 1
            return None
        if len(windows) < len(clip.windows):
            dropped[f"windows under {self.min_window_frames} frames"] += len(clip.windows) - len(windows)
        return ClipRecord(**{**_fields(clip), "windows": windows})


def _fields(clip: ClipRecord) -> dict[str, Any]:
    return {
        name: getattr(clip, name)
        for name in ("uuid", "path", "width", "height", "duration", "file", "offset", "length")
    }


@frozen
class ClipIndex:
    """clips: in the order of their uuids' SHA-256.

    digest: of their records and usable windows. dropped: how many the filter left out, by reason.
    """

    clips: tuple[ClipRecord, ...]
    digest: str
    dropped: Mapping[str, int]


def read_clips(file: Path, root: Path, clip_filter: ClipFilter, *, media_roots: Sequence[str] = ()) -> ClipIndex:
    """All usable clips of a JSONL file, plain or .gz.

    root: folder that no path may leave, except into `media_roots`. Raises UserError for unreadable lines (with file and
    line), for paths outside these folders, and when nothing usable remains (with the counts by reason).
    """
    clips: list[tuple[ClipRecord, bytes]] = []
    problems: list[Problem] = []
    dropped: Counter[str] = Counter()
    for number, offset, line in _lines(file):
        try:
            clip = _parse(line, file, offset, partial(find_media, root=root, media_roots=media_roots))
        except ValueError as error:
            problems.append(Problem(message=str(error), file=str(file), line=number))
            continue
        usable = clip_filter.apply(clip, dropped)
        if usable is not None:
            clips.append((usable, sha256(line.strip() + repr(usable.windows).encode()).digest()))
    if problems:
        rest = len(problems) - MAX_PROBLEMS
        more = [Problem(message=f"and {rest} more lines")] if rest > 0 else []
        raise UserError(f"{len(problems)} bad lines in {file}; nothing was started", [*problems[:MAX_PROBLEMS], *more])
    if not clips:
        reasons = [Problem(message=f"{count} x {reason}") for reason, count in dropped.items()]
        raise UserError(f"no usable clip in {file}; nothing was started", reasons or [Problem(message="it is empty")])
    clips.sort(key=lambda pair: sha256(pair[0].uuid.encode()).digest())
    digest = sha256(b"".join(part for _, part in clips)).hexdigest()
    return ClipIndex(tuple(clip for clip, _ in clips), digest, dropped)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if not file.is_file():
        raise UserError(f"no such file: {file}; nothing was started")
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as handle:
            yield cast(IO[bytes], handle)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read ({first_line(error)})") from None


def _lines(file: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, byte offset and bytes of every line that is not blank."""
    offset = 0
    with _opened(file) as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                yield number, offset, line
            offset += len(line)


def _parse(line: bytes, file: Path, offset: int, find: Callable[[str, Path], Path]) -> ClipRecord:
    try:
        record = json.loads(as_utf8(line))
    except UnicodeDecodeError as error:
        raise ValueError(error.reason) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if (b"\\ud" in line.lower() or b"\xed" in line) and text_fault(json.dumps(record, ensure_ascii=False)):
        raise ValueError("it holds half of a character (a lone surrogate)")
    uuid = _typed(record, "uuid", str)
    windows = _typed(record, "t2w_windows", list)
    return ClipRecord(
        uuid=uuid,
        path=_media(_typed(record, "vision_path", str), file.parent, find),
        width=_positive(record, "width"),
        height=_positive(record, "height"),
        duration=float(_typed(record, "duration", (int, float))),
        windows=tuple(_window(index, window) for index, window in enumerate(windows)),
        file=file,
        offset=offset,
        length=len(line),
    )


def _window(index: int, window: Any) -> Window:
    if not isinstance(window, dict):
        raise ValueError(f"t2w_windows[{index}] is not an object")
    start, end = _typed(window, "start_frame", int), _typed(window, "end_frame", int)
    interval = _typed({"temporal_interval": 1, **window}, "temporal_interval", int)
    if start < 0 or end < start or interval < 1:
        raise ValueError(f"t2w_windows[{index}] has an impossible range {start}..{end} by {interval}")
    return Window(index, start, end, interval)


def _typed(record: Mapping[str, Any], name: str, kind: Any) -> Any:
    if name not in record:
        raise ValueError(f"field '{name}' is missing")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"field '{name}' has the wrong type: {value!r}")
    return value


def _positive(record: Mapping[str, Any], name: str) -> int:
    value: int = _typed(record, name, int)
    if value < 1:
        raise ValueError(f"field '{name}' must be positive, got {value}")
    return value


def _media(text: str, folder: Path, find: Callable[[str, Path], Path]) -> Path:
    if "://" in text:
        raise ValueError(f"vision_path '{text}' is an address; only files are read")
    try:
        return find(text, folder)
    except ValueError as error:
        raise ValueError(f"vision_path {error}") from None


def captions_of(clip: ClipRecord, window: Window) -> dict[str, Any]:
    """The record's window with all its captions, read from the file."""
    with _opened(clip.file) as handle:
        handle.seek(clip.offset)
        record = json.loads(handle.read(clip.length))
    captions: dict[str, Any] = record["t2w_windows"][window.index]
    return captions
