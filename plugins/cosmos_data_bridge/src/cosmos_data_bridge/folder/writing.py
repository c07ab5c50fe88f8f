"""Writes listed clips as a dataset that `bridge` reads, with a recipe and a report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from cosmos_core.console import progress
from cosmos_core.data.dropped import Dropped, Drops
from cosmos_core.data.prepared import write_prepared
from cosmos_core.errors import Problem, UserError
from cosmos_data_bridge.folder.entries import Entry
from cosmos_data_bridge.folder.listing import Source, list_entries
from cosmos_data_bridge.folder.measure import Cut, Measured, measure_all, split
from cosmos_data_bridge.folder.tars import is_tar, unpack

__all__ = ["RECIPE", "Options", "write_folder"]

PACKAGE = "cosmos-data-bridge"
INDEX = "video_dataset_file.jsonl"
RECIPE, REPORT = "recipe.toml", "report.json"


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


def write_folder(source: Source, root: Path, options: Options, tell: Any) -> bool:
    """Write the dataset; False when it is there already. tell: is given lines to print. Raises UserError."""
    packed = is_tar(source.path)
    if packed and not options.copy:
        problem = Problem(message="training reads files, not tars", file=str(source.path), hint="--copy unpacks them")
        raise UserError("clips are in tars", [problem])
    entries = [] if packed else list_entries(source, tell)
    files = [entry.path for entry in entries] or [source.path, *sorted(source.path.glob("*.tar"))]
    content = [(entry.key, entry.captions) for entry in entries], [_stamp(path) for path in files]

    def write(folder: Path) -> None:
        listed = entries
        if packed:
            unpack(source.path, folder / "media")
            listed = list_entries(evolve(source, path=folder / "media"), tell)
        dropped = _write_splits(listed, folder, options, packed=packed)
        media = [] if options.copy else _folders(listed)
        has_validation = bool((folder / "val" / INDEX).stat().st_size)
        (folder / RECIPE).write_text(_recipe(root.resolve(), media, options, has_validation), encoding="utf-8")
        (folder / REPORT).write_text(json.dumps([asdict(one) for one in dropped], indent=2) + "\n", encoding="utf-8")
        for one in dropped:
            tell(f"left out: {one.count} x {one.reason}, e.g. {', '.join(one.examples)}")

    about = {"source": str(source.path.resolve()), "content": sha256(json.dumps(content).encode()).hexdigest()}
    return write_prepared(root, {**about, **asdict(options)}, write, package=PACKAGE)


def _stamp(path: Path) -> tuple[str, int, int]:
    about = path.stat()
    return str(path.resolve()), about.st_size, about.st_mtime_ns


def _write_splits(entries: Sequence[Entry], folder: Path, options: Options, *, packed: bool) -> tuple[Dropped, ...]:
    """Both splits' manifests; returns what was left out. Raises UserError when nothing is left to train on."""
    drops = Drops()
    with progress("measuring", len(entries), "files") as measuring:
        measured = {
            clip.entry.key: clip
            for clip in measure_all(entries, options.cut, drops, decode=True, done=measuring.advance)
        }
    usable = [entry for entry in entries if entry.key in measured]
    if not usable:
        problems = [Problem(message=f"{one.count} x {one.reason}", file=", ".join(one.examples)) for one in drops.all()]
        raise UserError("no clip can be used", problems)
    for name, part in zip(("train", "val"), split(usable, options.validation), strict=True):
        records = []
        (folder / name).mkdir()
        for entry in part:
            path = _place(measured[entry.key], folder, copy=options.copy, packed=packed)
            records.append({**measured[entry.key].record(), "vision_path": path})
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / name / INDEX).write_text("".join(lines), encoding="utf-8")
    return drops.all()


def _place(clip: Measured, folder: Path, *, copy: bool, packed: bool) -> str:
    """The path that the manifest names, after copying where asked."""
    entry = clip.entry
    if not copy:
        return str(entry.path.resolve())
    target = entry.path if packed else folder / "media" / f"{entry.key.strip('/')}{entry.path.suffix}"
    if not packed:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.path, target)
    return f"../{target.relative_to(folder).as_posix()}"


def _folders(entries: Sequence[Entry]) -> list[Path]:
    """Folders that the clips lie in, without those below another."""
    parents = {entry.path.resolve().parent for entry in entries}
    return sorted(parent for parent in parents if not parents.intersection(parent.parents))


def _recipe(root: Path, media: Sequence[Path], options: Options, has_validation: bool) -> str:
    """A recipe that trains on the dataset. media: folders outside of it that its files lie in."""
    frames = options.cut.window or 1
    roots = json.dumps([str(path) for path in media], ensure_ascii=False)
    table = f'type = "bridge"\npath = {json.dumps(str(root), ensure_ascii=False)}\nmedia_roots = {roots}\n'
    table += f"min_window_frames = {frames}\n"
    lines = [
        f'summary = "{options.recipe} on clips of your own"',
        f"extends = {json.dumps(options.recipe, ensure_ascii=False)}",
        f"\n[dataloader_train.dataset]\n{table}",
    ]
    if has_validation:
        val = f'split = "val"\nresolution = "{options.resolution}"\ncfg_dropout_rate = 0.0'
        val += "\nconditioning_config = { 0 = 1.0 }"
        lines += [
            "[trainer]\nrun_validation = true\n",
            "[dataloader_val]\nmax_samples_per_batch = 1\nshuffle = false\n",
            f"[dataloader_val.dataset]\n{table}{val}\n",
        ]
    return "\n".join(lines)
