"""The network of a source, ready to generate."""

from __future__ import annotations

import torch
from attrs import evolve, frozen

from cosmos_core.config import ActivationCheckpointing, RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.train.load_for_eval import adopted, load_source
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.generate.adapters import fold, parse_adapter
from cosmos_vfm.generate.job import ConfiguredSource, Job
from cosmos_vfm.generate.offload import offload
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.required_files import file_problems

__all__ = ["Generator", "complete", "load"]


@frozen(eq=False)
class Generator:
    """A family with its network, in evaluation mode."""

    family: VfmFamily
    network: Cosmos3Network


def complete(
    configured: ConfiguredSource, plugins: PluginManager, *, precision: str | None = None, on_cuda: bool = False
) -> ConfiguredSource:
    """With the model size and the tokenizers of its folder, and the precision that it computes in.

    precision: as of a Job. on_cuda: whether the device is one. Raises UserError for files that are not there.
    """
    whole = evolve(configured, config=adopted(configured.source, configured.config, plugins=plugins))
    usual = whole.model.precision if configured.recorded or on_cuda else "float32"
    model = evolve(whole.model, precision=precision or usual)
    whole = evolve(whole, config=evolve(whole.config, model=model))
    problems = list(file_problems(whole.model, video="--vae ", text="--text-tokenizer "))
    if problems and not configured.recorded:
        problems.append(Problem(message="the source records no settings; `--recipe NAME` gives those of a recipe"))
    if problems:
        raise UserError("files that the generator needs are missing; nothing was started", problems)
    return whole


def load(
    configured: ConfiguredSource, job: Job, device: torch.device, plugins: PluginManager, *, adapters: tuple[str, ...]
) -> Generator:
    """The weights of a completed source on the device, with adapters folded in."""
    host = torch.device("cpu") if job.offload else device
    config = _for_inference(configured, job, device)
    family, model = load_source(configured.source, config, plugins=plugins, weights=configured.weights, device=host)
    assert isinstance(family, VfmFamily)
    assert isinstance(model, Cosmos3Network)
    model.requires_grad_(False)
    for text in adapters:
        fold(model, parse_adapter(text))
    if job.offload:
        family.move_to(device)
        offload(model, device)
    return Generator(family, model)


def _for_inference(configured: ConfiguredSource, job: Job, device: torch.device) -> RunConfig:
    """One copy of the weights in the compute precision; no cache of latents; compiled on accelerators."""
    config, model = configured.config, configured.model
    compiled = device.type == "cuda" if job.compiled is None else job.compiled
    # The settings may be those of a run of adapters, which a base or an export does not have.
    selected = config.optimizer.keys_to_select if configured.fine_tuned else ()
    return evolve(
        config,
        optimizer=evolve(config.optimizer, keys_to_select=selected),
        dataloader_train=evolve(config.dataloader_train, cache=None),
        model=evolve(
            model,
            parallelism=evolve(model.parallelism, fsdp_master_dtype=model.precision),
            compile=evolve(model.compile, enabled=compiled),
            activation_checkpointing=ActivationCheckpointing(mode="none"),
        ),
    )
