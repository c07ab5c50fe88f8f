"""Recipes of the cosmos-framework training scripts: names and keys that mean something else here, or nothing."""

from __future__ import annotations

from typing import Any

from cosmos_core.config.interpolate import key_text
from cosmos_core.config.merge import Layer, unset
from cosmos_core.errors import Problem

__all__ = ["recipe_of_experiment", "translate", "without_ineffective"]

_EXPERIMENTS = {
    "pre_exp012_llava_ov": "llava_ov",
    "pre_exp012_llava_ov_datapacker": "llava_ov",
    "pre_exp012_llava_ov_mapstyle_dataloader": "llava_ov_mapstyle_dataloader",
}
"""Experiment name -> recipe; other experiments are called as their recipe is."""

_INEFFECTIVE: dict[str, tuple[tuple[str, ...], ...]] = {
    "vfm": (("model", "attn_implementation"), ("model", "backbone")),
    "vlm": (
        ("model", "max_num_tokens_after_packing"),
        ("model", "joint_attn_implementation"),
        ("model", "tokenizer"),
        ("scheduler", "verbosity_interval"),
        ("dataloader_train", "max_caption_tokens"),
        ("trainer", "callbacks", "compile_tokenizer"),
    ),
}
"""Keys that recipes may hold although they do nothing for a task."""

_MOVED = (
    (("data_setting", "max_tokens"), ("dataloader_train", "max_sequence_length")),
    (("model", "config", "policy", "backbone"), ("model", "backbone")),
    (("model", "config", "policy"), ("model",)),
    (("model", "config"), ("model",)),
)
"""Prefixes of override keys in the resolved tree of those scripts -> the one address here; the first that fits."""


def recipe_of_experiment(experiment: str) -> str:
    """Name of the recipe an experiment stands for."""
    return _EXPERIMENTS.get(experiment, experiment)


def translate(path: tuple[str, ...]) -> tuple[tuple[str, ...], Problem | None]:
    """An override's key at its address here, with a note when that is another one."""
    for old, new in _MOVED:
        moved = (*new, *path[len(old) :])
        if path[: len(old)] == old and len(moved) > 1:
            message = f"is an address of the cosmos-framework training scripts; here it is {key_text(moved)}"
            return moved, Problem(message=message, key=key_text(path), file="command line")
    return path, None


def without_ineffective(layer: Layer) -> tuple[Layer, list[Problem]]:
    """The layer without keys that do nothing for its task, and a note with file and line for each."""
    job = layer.values.get("job")
    task = job.get("task") if isinstance(job, dict) else None
    present = [path for path in _INEFFECTIVE.get(str(task), ()) if _has(layer.values, path)]
    notes = [_note(layer, path, f"has no effect for task '{task}'") for path in present]
    if isinstance(job, dict) and job.get("upload_reproducible_setup") is True:
        notes.append(_note(layer, ("job", "upload_reproducible_setup"), "has no effect"))
    return unset(layer, present), notes


def _has(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _note(layer: Layer, path: tuple[str, ...], message: str) -> Problem:
    origin = layer.origins.get(path)
    return Problem(
        message=message,
        key=key_text(path),
        file=origin.file if origin else "",
        line=origin.line if origin else None,
        hint="remove it",
    )
