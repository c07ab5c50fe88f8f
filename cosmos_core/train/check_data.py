"""`cosmos data check`: reads what training would read, and counts what comes of it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator
from math import ceil

import numpy as np
import torch
from attrs import evolve, field, frozen

from cosmos_core.config.cores import cores
from cosmos_core.config.run import RunConfig
from cosmos_core.console import progress
from cosmos_core.data.dropped import Dropped, Drops
from cosmos_core.data.overlong import OverlongSample, TooLongForPack
from cosmos_core.data.pool import pack
from cosmos_core.data.preparation import ReadSample
from cosmos_core.data.samples import Chat, Item, Video, VideoText
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.used import digest_of
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.contact_sheet import contact_sheet
from cosmos_core.train.model_input import ModelInput
from cosmos_core.train.sample_reader import SampleReader, open_readers

__all__ = ["CheckedSample", "DataReport", "check_data"]

QUICK, MAX_PROBLEMS = 200, 10
PICTURES, PICTURE_FRAMES, PICTURE_SIDE = 24, 4, 160
SAMPLES_A_WORKER = 8
"""Fewer are read sooner than a process starts."""


@frozen(kw_only=True)
class CheckedSample:
    """What is reported of one sample.

    sizes: of each clip, image and video as the model gets it. seconds, fps: of each clip and video. characters: of the
    caption, or of the assistant's texts. skipped: where, why, and the option behind it. failed: why a run would end.
    identity: digest of what tells the sample from others; index: its place in the dataset. picture: a JPEG of some
    frames in base64, "" for most.
    """

    position: int
    key: str = ""
    tokens: int = 0
    kind: str = ""
    frames: int = 0
    sizes: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    fps: tuple[float, ...] = ()
    characters: int | None = None
    messages: int | None = None
    text: str = ""
    latent_bytes: int = 0
    differences: tuple[str, ...] = ()
    overlong: bool = False
    skipped: tuple[str, str, str] | None = None
    failed: tuple[Problem, ...] = ()
    identity: bytes = field(default=b"", repr=False)
    index: int = 0
    picture: str = field(default="", repr=False)


@frozen(kw_only=True)
class DataReport:
    """What training would read of one section of the configuration.

    samples: of an epoch; read: of these. dropped: left out by the dataset; skipped: by the loader. repeated: used
    samples whose id, or content where they have none, another one has. overlong: samples
    longer than a pack, whatever becomes of them. ranges: minimum, median and maximum by name. steps: an epoch takes, on
    one process; for validation, its micro-batches; estimated where not all was read. latent_bytes: a latent cache of
    all samples takes, from those read; 0 without one. problems: why training would refuse.
    """

    section: str
    samples: int
    read: int
    used: int
    dropped: tuple[Dropped, ...]
    skipped: tuple[Dropped, ...]
    differences: tuple[Dropped, ...]
    repeated: tuple[Dropped, ...]
    overlong: int
    overlong_policy: str
    ranges: dict[str, tuple[float, float, float]]
    sizes: dict[str, int]
    kinds: dict[str, int]
    packs: int
    packing_efficiency: float | None
    steps: int
    latent_bytes: float
    problems: tuple[str, ...]
    rows: tuple[CheckedSample, ...] = field(repr=False)


class _Checker(torch.utils.data.Dataset[CheckedSample]):
    """Position -> facts of a sample, in the workers. pictures: positions that get one."""

    def __init__(self, reader: SampleReader, pictures: set[int]) -> None:
        self.reader, self.pictures = reader, pictures

    def __getitem__(self, position: int) -> CheckedSample:
        source, index = self.reader.source, self.reader.index(position)
        row = CheckedSample(
            position=position, differences=tuple(source.differences(index)), index=index,
            identity=digest_of(source.identity(index)),
        )  # fmt: skip
        try:
            return _facts(row, self.reader.read(position), self.reader, with_picture=position in self.pictures)
        except UnreadableSample as error:
            overlong = isinstance(error, OverlongSample)
            key = f"{self.reader.table(position)}.{error.key}" if error.key else ""
            if overlong:
                key = f"{self.reader.section}.overlong"
            return evolve(row, key=source.key(index), skipped=(error.where, error.reason, key), overlong=overlong)
        except UserError as error:
            failed = tuple(error.problems) or (Problem(message=error.title),)
            return evolve(row, key=source.key(index), failed=failed, overlong=isinstance(error, TooLongForPack))


def _facts(row: CheckedSample, sample: ReadSample, reader: SampleReader, *, with_picture: bool) -> CheckedSample:
    shown = reader.family.model_input(sample.value) or ModelInput((), ())
    row = evolve(
        row, key=sample.key, tokens=sample.num_tokens, kind=reader.family.kind(sample.value), overlong=sample.overlong,
        frames=len(shown.frames), latent_bytes=shown.latent_bytes,
        sizes=tuple(f"{frames[0].shape[2]}x{frames[0].shape[1]}" for frames in shown.media),
        picture=_jpeg(shown.frames) if with_picture and shown.frames else "",
    )  # fmt: skip
    record = sample.record
    if isinstance(record, VideoText):
        seconds = len(shown.frames) / record.fps
        return evolve(
            row, seconds=(seconds,), fps=(record.fps,), characters=len(record.caption),
            text=record.caption if with_picture else "",
        )  # fmt: skip
    if isinstance(record, Chat):
        parts = [(message.role, part) for message in record.messages for part in message.content]
        videos = [part for _, part in parts if isinstance(part, Video)]
        texts = [(role, part) for role, part in parts if isinstance(part, str)]
        return evolve(
            row, seconds=tuple(video.seconds[-1] for video in videos),
            fps=tuple(video.fps for video in videos if video.fps is not None),
            characters=sum(len(text) for role, text in texts if role == "assistant"), messages=len(record.messages),
            text="\n".join(f"{role}: {text}" for role, text in texts) if with_picture else "",
        )  # fmt: skip
    return row


def check_data(config: RunConfig, plugins: PluginManager, *, quick: bool = False) -> list[DataReport]:
    """Read the first epoch of the training data and, if the run validates, the validation data; a report for each.

    quick: read 200 samples of each, spread evenly. Raises UserError when data cannot be opened.
    """
    return [_checked(reader, config.trainer.grad_accum_iter, quick=quick) for reader in open_readers(config, plugins)]


def _checked(reader: SampleReader, accumulated: int, *, quick: bool) -> DataReport:
    count = min(len(reader), QUICK) if quick else len(reader)
    positions = sorted({round(place) for place in np.linspace(0, len(reader) - 1, count)})
    pictures = {positions[round(place)] for place in np.linspace(0, len(positions) - 1, min(PICTURES, count))}
    # An option of its own: a recipe's may suit the GPUs' speed, and nothing else runs here.
    workers = min(cores(), len(positions) // SAMPLES_A_WORKER)
    rows: list[CheckedSample] = []
    with progress(f"reading {reader.section}", len(positions), "samples") as reading:
        for row in torch.utils.data.DataLoader(
            _Checker(reader, pictures), sampler=positions, batch_size=None, num_workers=workers
        ):
            rows.append(row)
            reading.advance()
    return _report(reader, rows, accumulated if reader.section == "dataloader_train" else 1)


def _report(reader: SampleReader, rows: list[CheckedSample], accumulated: int) -> DataReport:
    used = [row for row in rows if row.skipped is None and not row.failed]
    skipped, differences = Drops(), Drops()
    for row in rows:
        if row.skipped is not None:
            where, reason, key = row.skipped
            skipped.add(reason, where, key)
        if row.differences:
            differences.add("records that differ from their file", f"{row.key}: {'; '.join(row.differences)}")
    dropped = [
        evolve(group, key=f"{reader.section}.dataset.{group.key}" if group.key else "")
        for group in reader.source.dropped
    ]
    stream = (Item(row.position, None, num_tokens=row.tokens, kind=row.kind) for row in used)
    packs = [(len(items), tokens) for items, _, tokens in pack(stream, reader.loader, reader.max_tokens)]
    filled = sum(tokens for _, tokens in packs)
    cap, share = reader.max_tokens, len(reader) / max(len(rows), 1)
    return DataReport(
        section=reader.section, samples=len(reader), read=len(rows), used=len(used), dropped=tuple(dropped),
        skipped=skipped.all(), differences=differences.all(), repeated=_repeated(used),
        overlong=sum(row.overlong for row in rows), overlong_policy=reader.loader.overlong,
        ranges=_ranges(used, packs),
        sizes=dict(Counter(size for row in used for size in row.sizes).most_common()),
        kinds=dict(Counter(row.kind for row in used if row.kind)), packs=len(packs),
        packing_efficiency=filled / (len(packs) * cap) if packs and cap else None,
        steps=ceil(len(packs) * share / accumulated), latent_bytes=sum(row.latent_bytes for row in used) * share,
        problems=tuple(_problems(reader, rows, used)), rows=tuple(rows),
    )  # fmt: skip


def _repeated(rows: list[CheckedSample]) -> tuple[Dropped, ...]:
    indexes = Counter(identity for identity, _ in {(row.identity, row.index) for row in rows})
    repeated = Drops()
    for row in rows:
        if indexes[row.identity] > 1:
            repeated.add("samples with the id, or without one the content, of another", row.key)
    return repeated.all()


def _problems(reader: SampleReader, rows: list[CheckedSample], used: list[CheckedSample]) -> Iterator[str]:
    """Why training would refuse."""
    failures = list(dict.fromkeys(problem for row in rows for problem in row.failed))
    advised = set[str]()
    for problem in failures[:MAX_PROBLEMS]:
        advice = "; ".join(filter(None, (problem.key, problem.hint)))
        yield problem.message if advice in {"", *advised} else f"{problem.message} ({advice})"
        advised.add(advice)
    if len(failures) > MAX_PROBLEMS:
        yield f"and {len(failures) - MAX_PROBLEMS} more such samples"
    bad = [row.skipped for row in rows if row.skipped is not None and not row.overlong]
    limit = reader.loader.max_bad_sample_fraction
    if len(bad) > limit * len(rows):
        name = f"{reader.section}.max_bad_sample_fraction"
        yield f"{len(bad)} of {len(rows)} samples cannot be used, more than {name} = {limit:g} allows"
        yield from (f"{where}: {reason}" for where, reason, _ in bad[:MAX_PROBLEMS])
        if len(bad) > MAX_PROBLEMS:
            yield f"and {len(bad) - MAX_PROBLEMS} more"
    elif not used and not failures:
        yield f"{reader.section}: no sample can be used"


def _ranges(rows: list[CheckedSample], packs: list[tuple[int, int]]) -> dict[str, tuple[float, float, float]]:
    is_dialog = any(row.messages is not None for row in rows)
    columns: dict[str, list[float]] = {
        "frames a sample": [row.frames for row in rows if row.frames],
        "seconds a clip": [seconds for row in rows for seconds in row.seconds],
        "frames a second": [fps for row in rows for fps in row.fps],
        "messages a dialog": [row.messages for row in rows if row.messages is not None],
        "answer characters a dialog" if is_dialog else "characters a caption": [
            row.characters for row in rows if row.characters is not None
        ],
        "tokens a sample": [row.tokens for row in rows],
        "samples a pack": [samples for samples, _ in packs],
        "tokens a pack": [tokens for _, tokens in packs],
    }
    return {
        name: (float(min(values)), float(np.median(values)), float(max(values)))
        for name, values in columns.items()
        if values
    }


def _jpeg(frames: tuple[torch.Tensor, ...]) -> str:
    sheet, data = contact_sheet(frames, PICTURE_FRAMES, PICTURE_FRAMES, PICTURE_SIDE), io.BytesIO()
    sheet.save(data, "jpeg")
    return base64.b64encode(data.getvalue()).decode()
