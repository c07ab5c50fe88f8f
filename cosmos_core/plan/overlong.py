"""Whether the family and the dataset take the policy for samples longer than a pack."""

from __future__ import annotations

from collections.abc import Iterator

from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem
from cosmos_core.plugin.descriptors import DatasetSpec, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["unsupported_policies"]


def unsupported_policies(config: RunConfig, plugins: PluginManager) -> Iterator[Problem]:
    """A problem for each loader whose `overlong` is not for its family or its dataset."""
    family = plugins.registry.get(ModelFamilySpec, config.job.task)
    loaders = {"dataloader_train": config.dataloader_train, "dataloader_val": config.dataloader_val}
    for section, loader in loaders.items():
        if loader is None:
            continue
        datasets = [plugins.registry.get(DatasetSpec, dataset.type) for dataset in loader.datasets.values()]
        common = [policy for policy in family.overlong if all(policy in dataset.overlong for dataset in datasets)]
        if loader.overlong not in common:
            without = [f"dataset '{dataset.name}'" for dataset in datasets if loader.overlong not in dataset.overlong]
            whose = " and ".join(without) if loader.overlong in family.overlong else f"family '{family.name}'"
            message = f"'{loader.overlong}' is not for {whose}"
            yield Problem(message=message, key=f"{section}.overlong", hint=f"one of {', '.join(common)}")
