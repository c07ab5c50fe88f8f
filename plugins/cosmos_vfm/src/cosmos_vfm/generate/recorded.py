"""Defaults of generation that a run or an export carries (docs/checkpoints.md, Exports). Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.config import RunConfig
from cosmos_core.config.dump import to_plain
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan import read_export
from cosmos_core.plan.paths import EXPORT_FILE
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.generate.defaults import defaults_of

__all__ = ["generation_of", "recorded_generation"]

MODES = {"0": "text to video", "1": "image to video"}
"""By clean leading latent frames; more is "video to video"."""
SOLVER = ("steps", "guidance", "shift")
NUMBERS = ("frames", "fps", "steps", "guidance", "shift")
SWITCHES = ("tells_duration", "tells_size")


def generation_of(model: VfmConfig, config: RunConfig | None) -> dict[str, Any]:
    """Defaults by name: of the model, and what the training data says of clips and captions. config: of the run."""
    solver = defaults_of(model.tier, model.sampling, image=False)
    defaults: dict[str, Any] = {"tier": model.tier, **{name: getattr(solver, name) for name in SOLVER}}
    defaults["system_prompt"] = False
    if config is None:
        return defaults
    data: dict[str, Any] = to_plain(config)["dataloader_train"]["dataset"]
    defaults["max_caption_tokens"] = config.dataloader_train.max_caption_tokens
    if "resolution" in data:
        defaults["size"] = str(data["resolution"])
    if data.get("num_video_frames", -1) > 0:
        defaults["frames"] = data["num_video_frames"]
    if data.get("conditioning_fps", -1) > 0:
        defaults["fps"] = data["conditioning_fps"]
    if "append_duration_fps_timestamps" in data:
        defaults["tells_duration"] = data["append_duration_fps_timestamps"]
        defaults["tells_size"] = data.get("append_resolution_info", True)
    if isinstance(weights := data.get("conditioning_config"), dict):
        modes = (MODES.get(frames, "video to video") for frames, weight in weights.items() if weight)
        defaults["modes"] = list(dict.fromkeys(modes))
    return defaults


def recorded_generation(folder: Path) -> Mapping[str, Any]:
    """What an export says of its use, checked; {} of a folder that says nothing.

    Raises UserError that names every value that is none of its kind.
    """
    record = read_export(folder)
    if record is None:
        return {}
    values = record.generation
    wrong = {name: "a positive number" for name in NUMBERS if name in values and not _is_positive(values[name])}
    wrong |= {name: "true or false" for name in SWITCHES if not isinstance(values.get(name, True), bool)}
    wrong |= {} if isinstance(values.get("size", ""), str) else {"size": "a text"}
    hint = "export again, or correct the file"
    problems = [
        Problem(
            message=f"is {values[name]!r}, not {kind}",
            key=f"generation.{name}",
            file=str(folder / EXPORT_FILE),
            hint=hint,
        )
        for name, kind in wrong.items()
    ]
    if problems:
        raise UserError("the defaults that the export carries cannot be used", problems)
    return values


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
