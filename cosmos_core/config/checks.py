"""Rules about more than one value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cosmos_core.config.locate import KeyPath
from cosmos_core.config.model import AdaptedModelConfig
from cosmos_core.config.run import DataloaderConfig, RunConfig, SchedulerConfig
from cosmos_core.names import path_fault

__all__ = ["TOLERABLE", "Complaint", "cross_field"]

Complaint = tuple[KeyPath, str, str]

_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f]")
"""Separators and control characters."""
_MEMBER = re.compile(r"[A-Za-z0-9_.-]+")
TOLERABLE: tuple[KeyPath, ...] = (("scheduler", "warm_up_steps"),)
"""Rules that recipes of the cosmos-framework training scripts break: llava_ov has a warm-up longer than its run."""


def cross_field(config: RunConfig) -> Iterator[Complaint]:
    """Key, message and hint of every broken rule."""
    yield from _scheduler(config.scheduler)
    yield from _parts_of_names(config)
    if isinstance(config.model, AdaptedModelConfig):
        yield from _adapters(config.model, config.optimizer.keys_to_select)
    for name, loader in config.dataloaders.items():
        yield from _caps(loader, name)
        yield from _members(loader, name)
    if config.trainer.run_validation and config.dataloader_val is None:
        key = ("trainer", "run_validation")
        yield key, "is true but there is no [dataloader_val]", "add one, or set run_validation = false"
    for part in ("project", "group", "name"):
        value = getattr(config.job, part)
        if fault := path_fault(value):
            yield ("job", part), fault, "shorten it"
        elif not value or value.strip() != value or value in (".", "..") or _NOT_IN_NAMES.search(value):
            yield ("job", part), f"{value!r} cannot be a folder name", "use letters, digits, '-', '_' and '.'"


def _scheduler(scheduler: SchedulerConfig) -> Iterator[Complaint]:
    cycles = len(scheduler.cycle_lengths)
    for name in ("warm_up_steps", "f_start", "f_max", "f_min"):
        given = len(getattr(scheduler, name))
        if given != cycles:
            yield ("scheduler", name), f"has {given} entries for {cycles} cycles", "give one entry a cycle"
    if cycles == 0:
        yield ("scheduler", "cycle_lengths"), "is empty", "give at least one cycle"
    for warm, cycle in zip(scheduler.warm_up_steps, scheduler.cycle_lengths, strict=False):
        if warm >= cycle:
            message = f"a warm-up of {warm} steps never ends within its cycle of {cycle}"
            yield ("scheduler", "warm_up_steps"), message, "make it shorter than the cycle"


def _parts_of_names(config: RunConfig) -> Iterator[Complaint]:
    """An empty part would match every name, where most likely a variable was empty."""
    lists = {
        ("optimizer", "keys_to_select"): config.optimizer.keys_to_select,
        ("checkpoint", "keys_to_skip_loading"): config.checkpoint.keys_to_skip_loading,
    }
    keys: list[KeyPath] = [(*key, at) for key, texts in lists.items() for at, text in enumerate(texts) if not text]
    keys += [("optimizer", "lr_multipliers", text) for text in config.optimizer.lr_multipliers if not text]
    for key in keys:
        yield key, "is an empty text, which is a part of every name", "leave it out"


def _adapters(model: AdaptedModelConfig, keys: Sequence[str]) -> Iterator[Complaint]:
    trained = any("lora_" in key for key in keys)
    if model.lora_enabled and not trained:
        message = "selects no adapter, but model.lora_enabled is true"
        yield ("optimizer", "keys_to_select"), message, 'set it to ["lora_"]'
    if trained and not model.lora_enabled:
        message = "selects adapters, but model.lora_enabled is false"
        yield ("optimizer", "keys_to_select"), message, "set model.lora_enabled=true"
    if model.lora_enabled and not model.lora_targets:
        key, usual = ("model", "lora_target_modules"), model.usual_lora_targets
        yield key, "names no layer, but model.lora_enabled is true", f'set it, e.g. "{usual}"'
    if model.lora_enabled and model.ema.enabled:
        yield ("model", "ema", "enabled"), "keeps averages of adapters, which nothing reads", "set it to false"


def _caps(loader: DataloaderConfig, name: str) -> Iterator[Complaint]:
    if loader.packing == "pool":
        if loader.max_sequence_length is None:
            yield (name, "max_sequence_length"), "is not set, but the pool packer needs it", "set it, in tokens"
        return
    if loader.max_samples_per_batch is None and loader.max_sequence_length is None:
        remedy = "set max_sequence_length (tokens), max_samples_per_batch, or both"
        yield (name,), "has no cap on a micro-batch", remedy


def _members(loader: DataloaderConfig, name: str) -> Iterator[Complaint]:
    """What a mixture's members need besides their own keys, and what a single dataset does not have."""
    if loader.dataset is not None and loader.dataset.weight is not None:
        yield (name, "dataset", "weight"), "is for a member of a mixture", f"write [[{name}.mixture]], or remove it"
    names: dict[str, int] = {}
    for index, member in enumerate(loader.mixture):
        path = (name, "mixture", index)
        if member.weight is None:
            yield (*path, "weight"), "is missing", "give the member's share, such as 0.5"
        if not _MEMBER.fullmatch(member.label):
            yield (*path, "name"), f"{member.label!r} cannot name a metric", "use letters, digits, '-', '_' and '.'"
        first = names.setdefault(member.label, index)
        if first != index:
            yield (*path, "name"), f"mixture[{first}] is called '{member.label}' too", "give each a name of its own"
