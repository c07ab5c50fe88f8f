"""Between a trainer and its checkpoints: writes its state, reads it back, or starts from weights alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_core.checkpoint.base import AdapterBase, fingerprint
from cosmos_core.checkpoint.load import Loaded, load_component, load_loader_states
from cosmos_core.checkpoint.reader import stored_keys
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.checkpoint.state import optimizer_templates, random_state
from cosmos_core.config.model import AdaptedModelConfig
from cosmos_core.data.sampler import LOADER_FORMAT, is_loader_state
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.formats import check_format
from cosmos_core.optim.lora import trains_only_lora
from cosmos_core.plan.plan import Resume
from cosmos_core.train.weights import check_finite, initialise_rest, load_base, load_checkpoint, log_differences

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["TRAINER_FORMAT", "restore", "save"]

logger = logging.getLogger(__name__)

TRAINER_FORMAT = 1
"""Of a checkpoint's ``trainer/``."""
RANDOM_STATE = {"torch", "numpy_keys", "random_words"}
"""Entries without which a random state is another program's."""


def save(trainer: Trainer) -> Path:
    """Write ``iter_<step>``; returns the folder when it is complete."""
    return save_checkpoint(
        trainer.paths.checkpoints,
        trainer.step,
        trainer.state_dict(),
        {"format": LOADER_FORMAT, **trainer.loader_state},
        trainer.mesh,
        base=trainer.base,
        launch=trainer.launch,
    )


def restore(trainer: Trainer, source: Resume) -> None:
    """Fill a trainer whose memory holds anything: from `source`, and fresh where that has nothing.

    Raises UserError when something does not fit.
    """
    config, model, ema, mesh = trainer.config, trainer.model, trainer.ema, trainer.mesh
    loaded = Loaded()
    resumes = source.kind == "resume"
    if source.path is not None and resumes:
        _check_format(source.path / "trainer", mesh)
        trainer.base, loaded = load_checkpoint(source.path, model, ema, mesh, seed=trainer.streams.seed)
    elif source.path is not None:
        skip, strict = config.checkpoint.keys_to_skip_loading, config.checkpoint.strict_resume
        loaded = load_base(source.path, model, ema, mesh, skip=skip, strict=strict)
    fresh = initialise_rest(model, trainer.family, trainer.streams, loaded.tensors)
    restarted = ema.restart(loaded.averages) if ema is not None else []
    check_finite(model, ema, mesh, source.path)
    if source.path is not None and trainer.is_main:
        log_differences(config.model, loaded, fresh, restarted)
    if source.path is not None and resumes:
        _restore_training(trainer, source.path)
    elif trains_only_lora(model):
        trainer.base = _adapter_base(trainer, source)


def _check_format(folder: Path, mesh: Mesh) -> None:
    """Before anything is loaded, since another format could fail first as a mismatch of tensors."""
    if "format" in stored_keys(folder):
        values = {"format": 1}
        load_component(folder, values, mesh)
        check_format(values, folder, TRAINER_FORMAT)


def _restore_training(trainer: Trainer, checkpoint: Path) -> None:
    optim = optimizer_templates(trainer.model, trainer.optimizer, stored_keys(checkpoint / "optim"))
    state: dict[str, dict[str, Any]] = {
        "optim": dict(optim),
        "scheduler": {"last_epoch": 0},
        "trainer": _trainer_template(trainer, stored_keys(checkpoint / "trainer")),
    }
    for name, component in state.items():
        load_component(checkpoint / name, component, trainer.mesh)
    loader_states = load_loader_states(checkpoint / "dataloader")
    if not loader_states or not all(is_loader_state(one) for one in loader_states):
        loader_states = []
        if trainer.is_main:
            logger.warning("%s does not say how far the data was read; it begins anew", checkpoint)
    trainer.load_state_dict(state, loader_states)


def _trainer_template(trainer: Trainer, stored: set[str]) -> dict[str, Any]:
    """The parts of the component ``trainer`` that are stored. The cosmos-framework scripts pack random states in
    another form; training draws from streams of its own and needs none of it."""
    template: dict[str, Any] = {"iteration": 0}
    mine = f"rng_state_{trainer.mesh.rank}"
    randomness = {name: value for name, value in random_state().items() if f"{mine}.{name}" in stored}
    if randomness.keys() >= RANDOM_STATE:
        template[mine] = randomness
    callbacks = {name: callback.state_dict() for name, callback in trainer.callbacks.items()}
    kept = {
        name: values
        for name, values in callbacks.items()
        if values and all(f"callbacks.{name}.{key}" in stored for key in values)
    }
    return {**template, "callbacks": kept} if kept else template


def _adapter_base(trainer: Trainer, source: Resume) -> AdapterBase:
    """The record of what a run's adapters build on: a converted base, the family's own files, or fresh weights."""
    model = trainer.config.model
    assert isinstance(model, AdaptedModelConfig)
    folder = source.path / "model" if source.path is not None else trainer.family.weights_folder
    return AdapterBase(
        folder=str(folder.resolve()) if folder is not None else "",
        digest=fingerprint(folder) if folder is not None else "",
        dcp=source.path is not None,
        rank=model.lora_rank,
        alpha=model.lora_alpha,
        seed=trainer.streams.seed if folder is None else None,
    )
