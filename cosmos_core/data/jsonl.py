"""The video SFT format: one JSON object a line, each a clip with captioned windows (docs/data.md, Captioned clips)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from math import inf
from os.path import isfile
from pathlib import Path
from typing import IO, Any, cast

from attrs import evolve, field, frozen

from cosmos_core.data.dropped import Dropped, Drops
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.hub.containment import find_media
from cosmos_core.names import counted, text_fault
from cosmos_core.strict_json import loads
from cosmos_core.text_files import as_utf8

__all__ = ["CALLED", "ClipFilter", "ClipIndex", "ClipRecord", "Window", "captions_of", "index_of", "read_clips"]

MAX_PROBLEMS = 10
"""Bad lines that one error lists."""
CALLED = ("caption", "qwen3")
"""How names of caption fields begin."""
MAX_NUMBER = 2**31 - 1
"""Of a number of frames, pixels or seconds; a larger one is damage."""


@frozen
class Window:
    """A captioned range of frames. end: inclusive, None for the end of the file. index: its place in the record."""

    index: int
    start: int
    end: int | None
    interval: int

    @property
    def frames(self) -> int | None:
        """Frames in the window; None where only the file knows."""
        return None if self.end is None else self.end - self.start + 1


@frozen
class ClipRecord:
    """One record without its captions, which are read when the sample is.

    width, height, duration, frames: what the record says of the file, None where it says nothing. checksum: of the
    line. captions: those of each window, for records that are in no file.
    """

    uuid: str
    path: Path
    width: int | None
    height: int | None
    duration: float | None
    windows: tuple[Window, ...]
    file: Path
    offset: int
    length: int
    frames: int | None = None
    checksum: int = 0
    captions: tuple[Mapping[str, Any], ...] | None = field(default=None, repr=False)


@frozen
class ClipFilter:
    """Which clips and windows are left out; each is counted by its reason. What a record does not say passes."""

    max_duration: float
    min_short_edge: int
    min_window_frames: int

    def apply(self, clip: ClipRecord, drops: Drops) -> ClipRecord | None:
        """The clip with its usable windows, or None."""
        if clip.duration is not None and clip.duration > self.max_duration:
            drops.add(f"longer than {self.max_duration:g} s", clip.uuid, "max_duration")
            return None
        if min(clip.width or inf, clip.height or inf) < self.min_short_edge:
            drops.add(f"short edge under {self.min_short_edge} pixels", clip.uuid, "min_short_edge")
            return None
        windows = tuple(window for window in clip.windows if (window.frames or inf) >= self.min_window_frames)
        few = f"{self.min_window_frames} frames"
        if not windows:
            drops.add(f"no window of at least {few}", clip.uuid, "min_window_frames")
            return None
        for window in clip.windows:
            if window not in windows:
                drops.add(f"windows under {few}", f"{clip.uuid}_w{window.index}", "min_window_frames")
        return evolve(clip, windows=windows)


@frozen
class ClipIndex:
    """clips: in the order of their uuids' SHA-256.

    digest: of their records and usable windows. dropped: what the filter left out.
    """

    clips: tuple[ClipRecord, ...]
    digest: str
    dropped: tuple[Dropped, ...]


def index_of(
    records: Iterable[tuple[ClipRecord, bytes]], clip_filter: ClipFilter, drops: Drops, where: str
) -> ClipIndex:
    """The usable ones of records, each with the bytes that tell whether it changed.

    where: what they come from, for messages. Raises UserError when none is usable, with the counts by reason.
    """
    clips: list[tuple[ClipRecord, bytes]] = []
    for clip, content in records:
        usable = clip_filter.apply(clip, drops)
        if usable is not None:
            clips.append((usable, sha256(content + repr(usable.windows).encode()).digest()))
    if not clips:
        reasons = [_as_problem(dropped) for dropped in drops.all()]
        fault = "no usable clip in" if reasons else "there is no clip in"
        raise UserError(f"{fault} {where}; nothing was started", reasons)
    clips.sort(key=lambda pair: sha256(pair[0].uuid.encode()).digest())
    digest = sha256(b"".join(part for _, part in clips)).hexdigest()
    return ClipIndex(tuple(clip for clip, _ in clips), digest, drops.all())


def _as_problem(dropped: Dropped) -> Problem:
    hint = f"dataloader_train.dataset.{dropped.key} changes it" if dropped.key else ""
    return Problem(message=f"{dropped.count} x {dropped.reason}", hint=hint)


def read_clips(
    file: Path,
    root: Path,
    clip_filter: ClipFilter,
    *,
    media_roots: Sequence[str] = (),
    check: Callable[[Mapping[str, Any]], None] = lambda captions: None,
) -> ClipIndex:
    """All usable clips of a JSONL file, plain or .gz.

    root: folder that no path may leave, except into `media_roots`. check: raises ValueError for captions that cannot be
    used. Raises UserError for unreadable lines (with file and line), for paths outside these folders, and when nothing
    usable remains (with the counts by reason).
    """
    records: list[tuple[ClipRecord, bytes]] = []
    problems: list[Problem] = []
    find = partial(find_media, root=root, media_roots=media_roots)
    for number, offset, line in _lines(file):
        try:
            records.append((_parse(line, file, offset, find, check), line.strip()))
        except ValueError as error:
            message = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
            problems.append(Problem(message=message, file=str(file), line=number))
            if isinstance(error, UnicodeDecodeError):
                break  # The lines of another encoding are no lines.
    if problems:
        rest = len(problems) - MAX_PROBLEMS
        more = [Problem(message=f"and {counted(rest, 'more line')}")] if rest > 0 else []
        raise UserError(
            f"{counted(len(problems), 'bad line')} in {file}; nothing was started", [*problems[:MAX_PROBLEMS], *more]
        )
    return index_of(records, clip_filter, Drops(), str(file))


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if not isfile(file):
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


def _parse(
    line: bytes, file: Path, offset: int, find: Callable[[str, Path], Path], check: Callable[[Mapping[str, Any]], None]
) -> ClipRecord:
    record = _object(line)
    frames = _positive(record, "nb_frames")
    uuid = _typed(record, "uuid", str)
    if fault := text_fault(uuid):
        raise ValueError(f"uuid {uuid!r:.80} {fault}")
    return ClipRecord(
        uuid=uuid,
        path=_media(_typed(record, "vision_path", str), file.parent, find),
        width=_positive(record, "width"),
        height=_positive(record, "height"),
        duration=_duration(record),
        windows=_windows(record, frames, check),
        file=file,
        offset=offset,
        length=len(line),
        frames=frames,
        checksum=zlib.crc32(line),
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        record = loads(as_utf8(line))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def _windows(
    record: Mapping[str, Any], frames: int | None, check: Callable[[Mapping[str, Any]], None]
) -> tuple[Window, ...]:
    """The record's windows; the whole clip for a record that has none and carries its captions itself."""
    if "t2w_windows" not in record:
        if not any(name.startswith(CALLED) for name in record):
            raise ValueError("field 't2w_windows' is missing, and so are the fields of a caption of the whole clip")
        check(record)
        return (Window(0, 0, None if frames is None else frames - 1, 1),)
    windows = _typed(record, "t2w_windows", list)
    parsed = tuple(_window(index, window) for index, window in enumerate(windows))
    for index, window in enumerate(windows):
        try:
            check(window)
        except ValueError as error:
            raise ValueError(f"t2w_windows[{index}]: {error}") from None
    return parsed


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
        raise ValueError(f"field '{name}' has the wrong type: {value!r:.80}")
    if isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:
        raise ValueError(f"field '{name}' is beyond {MAX_NUMBER:,}: {value!r:.80}")
    return value


def _positive(record: Mapping[str, Any], name: str) -> int | None:
    """A fact that may be absent."""
    if record.get(name) is None:
        return None
    value: int = _typed(record, name, int)
    if value < 1:
        raise ValueError(f"field '{name}' must be positive, got {value}")
    return value


def _duration(record: Mapping[str, Any]) -> float | None:
    return None if record.get("duration") is None else float(_typed(record, "duration", (int, float)))


def _media(text: str, folder: Path, find: Callable[[str, Path], Path]) -> Path:
    if "://" in text:
        raise ValueError(f"vision_path '{text}' is an address; only files are read")
    try:
        return find(text, folder)
    except ValueError as error:
        raise ValueError(f"vision_path {error}") from None


def captions_of(clip: ClipRecord, window: Window) -> Mapping[str, Any]:
    """The record's window with all its captions, read from the file. Raises UnreadableSample when they are gone."""
    if clip.captions is not None:
        return clip.captions[window.index]
    with _opened(clip.file) as handle:
        handle.seek(clip.offset)
        line = handle.read(clip.length)
    if zlib.crc32(line) != clip.checksum:  # Another record may be as long.
        # Here, since the checks before a run list clips without torch.
        from cosmos_core.data.source import UnreadableSample

        raise UnreadableSample(f"{clip.uuid} ({clip.file})", "its record changed since the file was listed")
    record = _object(line)
    captions: Mapping[str, Any] = record["t2w_windows"][window.index] if "t2w_windows" in record else record
    return captions
