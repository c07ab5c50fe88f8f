"""From a configuration to a materialised, sharded, freshly initialised network."""

from __future__ import annotations

import torch
from torch import nn

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import RunConfig
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.seeds import Streams
from cosmos_core.optim.select import select_trainable
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.family import BuildContext, ModelFamily
from cosmos_core.train.weights import initialise_rest

__all__ = ["build_family", "build_model", "materialise", "needs_mixed_precision"]


def needs_mixed_precision(model: ModelConfig) -> bool:
    """Whether weights are stored in another dtype than they are used in."""
    return model.parallelism.fsdp_master_dtype != model.precision


def build_family(config: RunConfig, plugins: PluginManager, device: torch.device) -> ModelFamily:
    """The model family that `job.task` names."""
    family = plugins.catalog.family(config.job.task).family.load()
    return family(config.model, BuildContext(device=device, data=config.dataloader_train))


def build_model(config: RunConfig, family: ModelFamily, mesh: Mesh, streams: Streams) -> nn.Module:
    """A network that starts from nothing but its family."""
    model = materialise(config, family, mesh)
    initialise_rest(model, family, streams)
    return model


def materialise(config: RunConfig, family: ModelFamily, mesh: Mesh) -> nn.Module:
    """Build on the meta device, choose what trains, store trained weights in the master dtype and frozen ones in the
    compute dtype, shard, allocate. Every value is still whatever lay in memory."""
    with torch.device("meta"):
        model = family.build()
    select_trainable(model, config.optimizer.keys_to_select)
    master = dtype(config.model.parallelism.fsdp_master_dtype)
    compute = dtype(config.model.precision)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(master if parameter.requires_grad else compute)
    family.parallelize(model, mesh)
    model.to_empty(device=mesh.device)
    return model
