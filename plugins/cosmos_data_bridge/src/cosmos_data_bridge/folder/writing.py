"""Writes listed clips as a dataset that `bridge` reads, with a recipe and a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from attrs import asdict, frozen

from cosmos_core.console import progress
from cosmos_core.data.dropped import Dropped, Drops
from cosmos_core.data.prepared import write_prepared
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted
from cosmos_data_bridge.folder.entries import Entry
from cosmos_data_bridge.folder.journal import Journal, stamp_of
from cosmos_data_bridge.folder.listing import Listing, Source
from cosmos_data_bridge.folder.measure import Cut, Measured, decoded_facts, measure_all, split
from cosmos_data_bridge.folder.media import MediaFolder
from cosmos_data_bridge.folder.recipe import RECIPE, recipe_text

__all__ = ["Options", "Report", "write_folder"]

PACKAGE = "cosmos-data-bridge"
INDEX = "video_dataset_file.jsonl"
REPORT, MEDIA, JOURNAL = "report.json", "media", "measured.jsonl"

Tell = Callable[[str], None]


@frozen
class Options:
    """What is written. validation: share of the files held out. copy: clips are copied. recipe: the one to extend.

    resolution: of that recipe's training data.
    """

    cut: Cut
    validation: float
    copy: bool
    recipe: str
    resolution: str


@frozen(kw_only=True)
class Report:
    """source: its path, or repository and commit. clips, windows: of each split. left_out: files, by reason."""

    source: str
    clips: dict[str, int]
    windows: dict[str, int]
    left_out: tuple[Dropped, ...]


def write_folder(
    source: Source, root: Path, options: Options, tell: Tell, validation_caps: Mapping[str, int] | None = None
) -> bool:
    """Write the dataset; False when it is there already.

    tell: is given lines to print. validation_caps: of a micro-batch of validation, where the recipe has none. What an
    interrupted call measured is not measured again, except files that changed. Raises UserError.
    """
    listing = Listing.of(source, tell)
    packed = listing.packed
    entries = [] if packed and options.copy else listing.entries()
    files = () if source.revision else (packed or [entry.path for entry in entries])
    content = [(entry.key, entry.captions) for entry in entries], [stamp_of(path) for path in files]
    name = source.revision or str(source.path.resolve())
    about = {"source": name, "content": sha256(json.dumps(content).encode()).hexdigest()}

    def write(folder: Path) -> None:
        media = MediaFolder(folder / MEDIA)
        listed = listing.entries(media) if packed else entries
        drops = Drops()
        listing.drop_unlisted(listed, drops)
        measured = _measure(listed, folder, options.cut, drops, tell)
        place = partial(_place, media=media, copy=options.copy)
        report = _write_splits(measured, folder, options, place, name, drops)
        media_roots = [] if options.copy else _folders(listed)
        caps = (validation_caps or {}) if report.clips["val"] else None
        text = recipe_text(root.resolve(), media_roots, options.recipe, options.resolution, options.cut.window, caps)
        (folder / RECIPE).write_text(text, encoding="utf-8")
        (folder / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
        media.remove_others({place(clip) for clip in measured} if options.copy else ())
        (folder / JOURNAL).unlink()
        for dropped in report.left_out:
            tell(f"left out: {dropped.count} x {dropped.reason}, e.g. {', '.join(dropped.examples)}")

    return write_prepared(root, {**about, **asdict(options)}, write, package=PACKAGE, resume=True)


def _measure(entries: Sequence[Entry], folder: Path, cut: Cut, drops: Drops, tell: Tell) -> list[Measured]:
    """The usable clips. Raises UserError when there are none."""
    journal = Journal(folder / JOURNAL, decoded_facts)
    if len(journal):
        tell(f"going on after an interruption: {counted(len(journal), 'file')} measured already")
    with progress("measuring", len(entries), "files") as measuring:
        measured = measure_all(entries, cut, drops, facts_of=journal.facts_of, done=measuring.advance)
    if not measured:
        reasons = ((f"{dropped.count} x {dropped.reason}", dropped.examples) for dropped in drops.all())
        problems = [Problem(message=reason, file=", ".join(examples)) for reason, examples in reasons]
        raise UserError("no clip can be used", problems)
    return measured


def _write_splits(
    measured: Sequence[Measured], folder: Path, options: Options, place: Callable[[Measured], Path], name: str,
    drops: Drops,
) -> Report:  # fmt: skip
    """Both splits' manifests, after the clips were copied where asked."""
    by_key = {clip.entry.key: clip for clip in measured}
    clips, windows = {}, {}
    for part, entries in zip(
        ("train", "val"), split([clip.entry for clip in measured], options.validation), strict=True
    ):
        (folder / part).mkdir(exist_ok=True)
        lines = []
        for clip in (by_key[entry.key] for entry in entries):
            path = place(clip)
            text = f"../{path.relative_to(folder).as_posix()}" if options.copy else str(path)
            lines.append(json.dumps({**clip.record(), "vision_path": text}, ensure_ascii=False) + "\n")
        (folder / part / INDEX).write_text("".join(lines), encoding="utf-8")
        clips[part] = len(entries)
        windows[part] = sum(len(by_key[entry.key].windows) for entry in entries)
    return Report(source=name, clips=clips, windows=windows, left_out=drops.all())


def _place(clip: Measured, *, media: MediaFolder, copy: bool) -> Path:
    """Where the clip is, after copying where asked."""
    path = clip.entry.path
    if not copy:
        return path.resolve()
    if path.is_relative_to(media.root):
        return path
    about = path.stat()
    name = f"{clip.entry.key.strip('/')}{path.suffix}"
    return media.place(name, about.st_size, about.st_mtime_ns, partial(shutil.copyfile, path))


def _folders(entries: Sequence[Entry]) -> list[Path]:
    """Folders that the clips lie in, without those below another."""
    parents = {entry.path.resolve().parent for entry in entries}
    return sorted(parent for parent in parents if not parents.intersection(parent.parents))
