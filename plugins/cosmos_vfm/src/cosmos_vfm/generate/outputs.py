"""Files of `cosmos generate`: clips and pictures, results.jsonl, the page, the contact sheet, comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cosmos_core.data.video import decode_frames, write_mp4
from cosmos_core.data.video.decode import Frames
from cosmos_core.errors import Problem, UserError, writing
from cosmos_core.names import counted
from cosmos_core.plan.record import replace_file
from cosmos_vfm.generate.clips import Clip
from cosmos_vfm.generate.contact_sheet import COLUMNS, Row, write_contact_sheet
from cosmos_vfm.generate.page import Cell, PageRow, write_page

__all__ = ["PAGE", "RESULTS", "Result", "append_result", "finished", "write_clip", "write_overview"]

RESULTS = "results.jsonl"
PAGE = "index.html"
PRESET = "veryfast"
"""Of x264: the noise that an untrained network draws takes four times as long with 'medium'."""
Result = dict[str, Any]
"""One clip of one source, as in results.jsonl."""
FACTS = (
    "weights", "step", "averaged", "adapters", "mode", "seed", "steps", "guidance", "shift", "interval", "width",
    "height", "frames", "fps", "seconds",
)  # fmt: skip
"""Keys of a result that the page shows."""


def write_clip(folder: Path, name: str, video: torch.Tensor, fps: float) -> str:
    """uint8 [3, T, H, W] as .mp4, or as .png if it is one frame. Returns the file's name."""
    frames = video.permute(1, 2, 3, 0).numpy()
    return _write(folder / f"{name}{'.png' if len(frames) == 1 else '.mp4'}", frames, fps)


def _write(path: Path, frames: Frames, fps: float) -> str:
    partial = path.with_name(f".partial-{path.name}")
    with writing(path):
        if path.suffix == ".png":
            Image.fromarray(np.ascontiguousarray(frames[0])).save(partial)
        else:
            write_mp4(partial, frames, fps, preset=PRESET)
        partial.replace(path)
    return path.name


def append_result(folder: Path, result: Result) -> None:
    """Add a line at once, so that nothing is lost when a later clip fails."""
    with writing(folder / RESULTS), (folder / RESULTS).open("a", encoding="utf-8") as file:
        file.write(_line(result))


def finished(folder: Path, planned: Mapping[tuple[int, str], Result]) -> dict[tuple[int, str], Result]:
    """The results of an interrupted command whose folder this is, by clip and source; marks an empty folder as such.

    planned: what is to be generated. Raises UserError for a folder that holds anything else, or all of it and the page.
    """
    file = folder / RESULTS
    if not any(folder.iterdir()):
        file.touch()
    try:
        known = _results(file)
        if not known and file.stat().st_size:
            raise ValueError(file)
        results = {key: result for key, result in known.items() if _is_clip(folder, result["file"])}
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{folder} is there already; choose another folder or remove it") from None
    others = filter(None, (_difference(result, planned.get(key)) for key, result in results.items()))
    if (other := next(others, None)) is not None:
        hint = "give the same command to go on with it; or choose another folder, or remove this one"
        message = f"it has clips of other weights, prompts or settings: {other}"
        raise UserError(f"{folder} is there already", [Problem(message=message, file=str(file), hint=hint)])
    if len(results) == len(planned) and (folder / PAGE).is_file():
        raise UserError(f"{folder} has all these clips already; choose another folder or remove it")
    (folder / PAGE).unlink(missing_ok=True)  # It is written last: without it the command did not come to its end.
    _write_results(folder, results.values())
    return results


def _difference(result: Result, planned: Result | None) -> str:
    """How a clip is another than is planned; "" when it is not. planned: None where no such clip is."""
    if planned is None:
        return f"{result['file']} is none that this command makes"
    differing = [
        f"{name} {result.get(name)!r:.200}, not {value!r:.200}"
        for name, value in planned.items()
        if name not in result or result[name] != value
    ]
    return f"{result['file']} was made with {'; '.join(differing)}" if differing else ""


def _is_clip(folder: Path, name: str) -> bool:
    """Whether a file of this name is there. Raises ValueError for a path to somewhere else."""
    if Path(name).name != name:
        raise ValueError(name)
    return (folder / name).is_file()


def _results(file: Path) -> dict[tuple[int, str], Result]:
    """Those of whole lines: a full disk cuts off the last one."""
    lines = map(json.loads, file.read_bytes().split(b"\n")[:-1])
    return {(result["clip"], result["source"]): result for result in lines}


def _write_results(folder: Path, results: Iterable[Result]) -> None:
    """All at once, so that a full disk leaves the lines that are there."""
    with writing(folder / RESULTS):
        replace_file(folder / RESULTS, "".join(map(_line, results)).encode())


def _line(result: Result) -> str:
    return json.dumps(result, ensure_ascii=False) + "\n"


def write_overview(
    folder: Path, clips: Sequence[Clip], labels: Sequence[str], truths: Mapping[int, str]
) -> list[Result]:
    """The results so far in order, and from them comparisons, contact sheet and page. Returns them.

    truths: files with the clips of the data that prompts were taken from, by the clip's index.
    """
    results = _results(folder / RESULTS)
    ordered = [results[clip.index, label] for clip in clips for label in labels if (clip.index, label) in results]
    _write_results(folder, ordered)
    rows, sheet = [], []
    for clip in clips:
        by_source = [result for result in ordered if result["clip"] == clip.index]
        if not by_source:
            continue
        more = None
        if len(by_source) > 1 and len(by_source) == len(labels):
            file = _side_by_side(folder, clip, [result["file"] for result in by_source])
            more = (file, "side by side: " + " | ".join(labels))
        truth = [Cell("data", truths[clip.index], clip.width)] if clip.index in truths else []
        rows.append(_page_row(clip, truth, by_source, more))
        tiles = [_still_frames(folder / result["file"], clip) for result in by_source]
        sheet.append(Row(clip.prompt, [torch.from_numpy(frames).permute(3, 0, 1, 2) for frames in tiles]))
    missing = len(clips) * len(labels) - len(ordered)
    note = f"missing: {counted(missing, 'clip')}; the same command makes what is missing" if missing else ""
    with writing(folder):
        write_contact_sheet(folder / "contact_sheet.png", labels, sheet)
        write_page(folder / PAGE, f"Generated with {', '.join(labels)}", rows, note=note)
    return ordered


def _page_row(
    clip: Clip, truth: list[Cell], results: Sequence[Mapping[str, Any]], more: tuple[str, str] | None
) -> PageRow:
    cells = [
        Cell(
            title=result["source"] + (f", step {result['step']}" if result["step"] is not None else ""),
            file=result["file"],
            width=clip.width,
            facts={key: result[key] for key in FACTS if result[key] not in (None, [])},
        )
        for result in results
    ]
    details = {"text as the model gets it": clip.text} if clip.text != clip.prompt else {}
    if clip.guidance != 1 and clip.negative:
        details["negative prompt"] = clip.negative
    return PageRow(clip.prompt, [*truth, *cells], details, more)


def _side_by_side(folder: Path, clip: Clip, files: Sequence[str]) -> str:
    parts = [_frames(folder / file, range(clip.frames)) for file in files]
    return _write(folder / f"{clip.name}_compared{clip.suffix}", np.concatenate(parts, axis=2), clip.fps)


def _still_frames(path: Path, clip: Clip) -> Frames:
    numbers = np.linspace(0, clip.frames - 1, min(COLUMNS, clip.frames)).round().astype(int)
    return _frames(path, numbers.tolist())


def _frames(path: Path, numbers: Sequence[int]) -> Frames:
    if path.suffix == ".png":
        with Image.open(path) as opened:
            return np.array(opened.convert("RGB"))[None]
    return decode_frames(path, numbers)
