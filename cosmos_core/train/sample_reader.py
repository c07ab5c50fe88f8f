"""Samples as a run reads them, one at a time and without a network: for `cosmos data check` and `cosmos data show`."""

from __future__ import annotations

import torch
from attrs import evolve

from cosmos_core.config.run import DataloaderConfig, RunConfig
from cosmos_core.data.mixture import members_of, order_of
from cosmos_core.data.overlong import PackLimit
from cosmos_core.data.preparation import ReadSample, read_sample
from cosmos_core.data.source import MapSource
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.preflight import mismatched_records
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.build import build_family, open_dataset, preparation_of
from cosmos_core.train.family import ModelFamily

__all__ = ["SampleReader", "open_readers"]


class SampleReader:
    """The first epoch of a section of the configuration; picklable for workers.

    section: its name. max_tokens: of a pack, None without a cap.
    """

    def __init__(self, section: str, loader: DataloaderConfig, source: MapSource, family: ModelFamily) -> None:
        self.section, self.loader, self.source, self.family = section, loader, source, family
        self._order, self._members = order_of(source, loader.seed, shuffle=loader.shuffle), members_of(source)
        self._limit = PackLimit.of(loader, section, cap=family.max_pack_tokens, shorten=family.shorten)
        self.max_tokens = self._limit.max_tokens if self._limit is not None else None

    def __len__(self) -> int:
        return len(self.source)

    def index(self, position: int) -> int:
        """Where the source holds the sample at a position of the order of training."""
        return self._order.place(position).index

    def table(self, position: int) -> str:
        """Key of the configuration's table that the sample at a position comes from."""
        return f"{self.section}.{self._members[self._order.place(position).member].key}"

    def member(self, position: int) -> str:
        """Name of the dataset of a mixture that the sample at a position comes from, else ""."""
        return self._members[self._order.place(position).member].name

    def read(self, position: int) -> ReadSample:
        """The sample at a position, with every random choice of a run; clips of its record are not decoded yet.

        Raises UnreadableSample and UserError.
        """
        index, preparation = self.index(position), preparation_of(self.family)
        return read_sample(self.source, index, position, preparation, self._limit, seed=self.loader.seed, lazy=True)


def open_readers(config: RunConfig, plugins: PluginManager) -> list[SampleReader]:
    """Of the training data and, if the run validates, of the validation data; latent caches are not used.

    Raises UserError when data or tokenizers cannot be opened, and when the data does not suit the family.
    """
    if problems := mismatched_records(config, plugins):
        raise UserError("the data does not suit the model family; nothing was read", problems)
    loaders = {name: evolve(loader, cache=None) for name, loader in config.data_sections.items()}
    sources = {name: open_dataset(loader, plugins, name) for name, loader in loaders.items()}
    lengths = {name: len(source) for name, source in sources.items()}
    empty = [Problem(message="holds no samples", key=f"{name}.dataset") for name in lengths if not lengths[name]]
    if empty:
        raise UserError("a dataset is empty", empty)
    family = build_family(evolve(config, dataloader_train=loaders["dataloader_train"]), plugins, torch.device("cpu"))
    return [SampleReader(name, loader, sources[name], family) for name, loader in loaders.items()]
