"""The processor files of a backbone: limits of image and video sizes are read from them, and written into exports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.strict_json import read_object
from cosmos_vlm.catalog import PINNED
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.tokenizer import lacking_configs

__all__ = ["PixelLimits", "check_processor", "chosen_limits", "pixel_limits", "write_processor"]

IMAGE, VIDEO = "preprocessor_config.json", "video_preprocessor_config.json"
PROCESSOR = "processor_config.json"
"""Where newer versions of transformers write the image and video processors, as the tables of `_TABLES`."""
_TABLES = {IMAGE: "image_processor", VIDEO: "video_processor"}
UNREADABLE = "the backbone's processor cannot be read"
MAX_PIXELS = 2**40
_OLD = ("min_pixels", "max_pixels")
"""Names of the limits in older files. They win over `size` in transformers."""
_COMPLETE = Path(__file__).parent / "backbones/tiny"
"""A folder with every file that a processor has, as Qwen3-VL's."""


@frozen
class PixelLimits:
    """Fewest and most pixels of an image, and of a video over all its frames."""

    image: tuple[int, int] = (65_536, 16_777_216)
    video: tuple[int, int] = (4_096, 25_165_824)


def check_processor(folder: Path) -> None:
    """Raises UserError with the files that a folder lacks to chat, and the command that fetches each."""
    lacking = lacking_configs(folder)
    if not (folder / PROCESSOR).is_file():
        lacking += [name for name in (IMAGE, VIDEO) if not (folder / name).is_file()]
    problems = [
        Problem(message=f"has no {name}", file=str(folder), hint=f"`{_fetching(folder, name)}` fetches it")
        for name in lacking
    ]
    if problems:
        raise UserError("the model's processor is not complete", problems)


def _fetching(folder: Path, name: str) -> str:
    """The command for a file that is the same in all published models of this architecture, but for config.json."""
    repository, revision = next(iter(PINNED.items()))
    if name == "config.json":
        repository, revision = "OWNER/REPOSITORY", "main"
    return f"hf download {repository} {name} --revision {revision} --local-dir {folder}"


def pixel_limits(config: VlmConfig, folder: Path) -> PixelLimits:
    """What the configuration says, else the backbone's own files, else the published limits of Qwen3-VL.

    Raises UserError for a file that is not JSON.
    """
    published = PixelLimits()
    image, video = _stored(folder, IMAGE, published.image), _stored(folder, VIDEO, published.video)
    return chosen_limits(config, PixelLimits(image, video))


def chosen_limits(config: VlmConfig, backbone: PixelLimits) -> PixelLimits:
    """What the configuration says, else the backbone's, moved where it would cross what is said."""
    return PixelLimits(
        image=_first(backbone.image, config.image_min_pixels, config.image_max_pixels),
        video=_first(backbone.video, config.video_min_pixels, config.video_max_pixels),
    )


def _first(stored: tuple[int, int], low: int | None, high: int | None) -> tuple[int, int]:
    high = max(stored[1], low or 0) if high is None else high
    return min(stored[0], high) if low is None else low, high


def _stored(folder: Path, name: str, published: tuple[int, int]) -> tuple[int, int]:
    nested = _read(folder / PROCESSOR).get(_TABLES[name])
    settings = nested if isinstance(nested, dict) else _read(folder / name)
    size = settings.get("size")
    size = size if isinstance(size, dict) else {}
    low, high = (
        next((value for value in (settings.get(old), size.get(edge), size.get(old)) if isinstance(value, int)), default)
        for old, edge, default in zip(_OLD, ("shortest_edge", "longest_edge"), published, strict=True)
    )
    if not 0 < low <= high <= MAX_PIXELS:
        message = f"its limits of {low!r:.40} and {high!r:.40} pixels are no range of sizes"
        raise UserError(UNREADABLE, [Problem(message=message, file=str(folder / name), hint="fetch it again")])
    return low, high


def _read(file: Path) -> dict[str, Any]:
    """{} for a file that is not there. Raises UserError."""
    return read_object(file, UNREADABLE) if file.is_file() else {}


def write_processor(folder: Path, limits: PixelLimits) -> None:
    """Write these limits into the processor files of a folder; files that it lacks become Qwen3-VL's."""
    nested = _read(folder / PROCESSOR)
    for name, (low, high) in {IMAGE: limits.image, VIDEO: limits.video}.items():
        settings = _read(folder / name) or _read(_COMPLETE / name)
        _write(folder / name, _with_limits(settings, low, high))
        if isinstance(table := nested.get(_TABLES[name]), dict):
            nested[_TABLES[name]] = _with_limits(table, low, high)
    if nested:
        _write(folder / PROCESSOR, nested)


def _with_limits(settings: Mapping[str, Any], low: int, high: int) -> dict[str, Any]:
    current = {name: value for name, value in settings.items() if name not in _OLD}
    return {**current, "size": {"longest_edge": high, "shortest_edge": low}}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
