"""Keys that were renamed, and experiment names and keys of the cosmos-framework training scripts."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cosmos_core.config.document import problem_at
from cosmos_core.config.locate import KeyPath, key_text
from cosmos_core.config.merge import Layer, unset, value_at
from cosmos_core.errors import Problem
from cosmos_core.names import did_you_mean

__all__ = [
    "RENAMED",
    "experiment_hint",
    "new_name",
    "recipe_of_experiment",
    "translate",
    "without_ineffective",
]

RENAMED = {
    "dataloader_train.max_skipped": "dataloader_train.max_bad_sample_fraction",
    "dataloader_val.max_skipped": "dataloader_val.max_bad_sample_fraction",
    "model.answer_tokens": "model.max_new_tokens",
    "model.loss_chunk": "model.loss_chunk_size",
}
"""Old key -> new key in the same table. An old key is an error in a recipe; in a run's ``config.toml`` it is read."""

EXPERIMENTS = {
    "pre_exp012_llava_ov": "llava_ov",
    "pre_exp012_llava_ov_datapacker": "llava_ov",
    "pre_exp012_llava_ov_mapstyle_dataloader": "llava_ov_mapstyle_dataloader",
}
"""Experiment -> recipe, for the experiments whose recipe has another name."""

_ACTION = "action_"
"""How the names of the published action recipes begin."""

_OF_THE_CACHE = ("cache", "cache_dir", "cache_gib")

_INEFFECTIVE: dict[str, tuple[tuple[str, ...], ...]] = {
    "vfm": (("model", "attn_implementation"), ("model", "backbone")),
    "vlm": (
        ("model", "max_num_tokens_after_packing"),
        ("model", "joint_attn_implementation"),
        ("model", "tokenizer"),
        ("dataloader_train", "max_caption_tokens"),
        ("dataloader_val", "max_caption_tokens"),
        *((loader, key) for loader in ("dataloader_train", "dataloader_val") for key in _OF_THE_CACHE),
        ("trainer", "callbacks", "compile_tokenizer"),
    ),
}
"""Task -> keys that recipes may hold although they have no effect for it."""

_INEFFECTIVE_FOR_ALL = (
    ("job", "upload_reproducible_setup"),
    ("trainer", "callbacks", "compile_tokenizer", "warmup_resolutions"),
)
"""Keys of published recipes that have no effect for any task."""

_MOVED = (
    (("data_setting", "max_tokens"), ("dataloader_train", "max_sequence_length")),
    (("model", "config", "policy", "backbone"), ("model", "backbone")),
    (("model", "config", "policy"), ("model",)),
    (("model", "config"), ("model",)),
)
"""(Prefix of a key of those scripts, prefix of the key here). The first that fits is used."""


def new_name(path: KeyPath, known: Collection[str]) -> str:
    """The new name of the unknown key at `path`; "" when it was not renamed, or its table has no key of that name.

    known: the keys of the table. A plugin's own table may thus have keys of these names without being affected.
    """
    name = RENAMED.get(key_text(path), "").rpartition(".")[2]
    return name if name in known else ""


def recipe_of_experiment(experiment: str) -> str:
    """Name of the recipe for an experiment."""
    return EXPERIMENTS.get(experiment, experiment)


def experiment_hint(experiment: str, recipes: Iterable[str]) -> str:
    """What to do about an experiment whose recipe is not installed. recipes: names of those that are."""
    if experiment.startswith(_ACTION):
        return "action recipes need a plugin for task 'action', and no installed one has this recipe"
    near = did_you_mean(experiment, [*recipes, *EXPERIMENTS])
    return near or "name an installed recipe (`cosmos recipes list`), or remove the key"


def translate(path: tuple[str, ...]) -> tuple[tuple[str, ...], Problem | None]:
    """The key here for a key on the command line, and a note when the two differ."""
    for old, new in _MOVED:
        moved = (*new, *path[len(old) :])
        if path[: len(old)] == old and len(moved) > 1:
            message = f"is a key of the cosmos-framework training scripts; here it is {key_text(moved)}"
            return moved, Problem(message=message, key=key_text(path), file="command line")
    return path, None


def without_ineffective(layer: Layer) -> tuple[Layer, list[Problem]]:
    """The layer without the keys that have no effect for its task, and a note with file and line for each.

    Keys that have no effect for any task stay, so that their types are checked; they get a note unless empty or false.
    """
    job = layer.values.get("job")
    task = job.get("task") if isinstance(job, dict) else None
    of_task = [path for path in _INEFFECTIVE.get(str(task), ()) if value_at(layer.values, path) is not None]
    rest = unset(layer, of_task)
    texts = dict.fromkeys(of_task, f"has no effect for task '{task}'")
    texts |= {path: "has no effect" for path in _INEFFECTIVE_FOR_ALL if value_at(rest.values, path)}
    return rest, [problem_at(path, text, layer.provenance, "remove it") for path, text in texts.items()]
