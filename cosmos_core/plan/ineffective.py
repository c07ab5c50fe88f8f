"""Keys that are set but do nothing, since another key of their section switches them off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from cosmos_core.config.fields import default_of
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig, TrackerConfig

__all__ = ["ineffective"]


def ineffective(config: RunConfig) -> Iterator[str]:
    """One sentence for each key whose `unless` holds and whose value is not its default."""
    account = config.trackers.get("wandb")
    if isinstance(account, TrackerConfig) and account.enabled and config.job.wandb_mode == "disabled":
        yield 'trackers.wandb has no effect: job.wandb_mode is "disabled"; "online" and "offline" switch it on'
    validation = config.dataloader_val and config.dataloader_val.dataset
    if validation and validation.changed != "refuse":
        yield "dataloader_val.dataset.changed has no effect: validation reads all of its data each time"
    if config.dataloader_train.cache is not None and not config.model.uses_latent_cache:
        yield f"dataloader_train.cache has no effect: job.task is '{config.job.task}', which encodes no videos"
    if config.checkpoint.keep_best.count and config.checkpoint.keep_last is None:
        yield "checkpoint.keep_best has no effect: all checkpoints stay without checkpoint.keep_last"
    elif config.checkpoint.keep_best.count and not config.trainer.run_validation:
        yield "checkpoint.keep_best has no effect: trainer.run_validation is false, so no checkpoint is the best"
    for field in attrs.fields(RunConfig):
        yield from _in_value(getattr(config, field.name), field.name)


def _in_value(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _in_value(item, f"{path}.{name}")
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _in_value(item, f"{path}[{index}]")
    if not attrs.has(type(value)):
        return
    for field in attrs.fields(type(value)):
        key, item = f"{path}.{field.name}", getattr(value, field.name)
        switch, off = field.metadata.get("unless") or ("", ())
        if switch and getattr(value, switch) in off:
            if item != default_of(field):
                yield f"{key} has no effect: {path}.{switch} is {value_text(getattr(value, switch))}"
        else:
            yield from _in_value(item, key)
