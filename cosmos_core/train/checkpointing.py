"""Loads a trainer's state: all of it, or the weights alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint._nested_dict import flatten_state_dict

from cosmos_core.checkpoint.load import Loaded, load_component, load_loader_states
from cosmos_core.checkpoint.reader import stored_keys
from cosmos_core.checkpoint.state import optimizer_templates, random_state
from cosmos_core.data.sampler import is_loader_state
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.base_users import note_base_user
from cosmos_core.plan.plan import WeightSource
from cosmos_core.train.base_record import base_of_start, base_on_resume
from cosmos_core.train.spikes import is_spikes_state
from cosmos_core.train.weights import (
    check_finite,
    initialise_rest,
    load_base,
    load_checkpoint,
    log_differences,
    places_of_base,
)

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["TRAINER_FORMAT", "load_training_state"]

logger = logging.getLogger(__name__)

TRAINER_FORMAT = 1
"""Format number of a checkpoint's ``trainer/``."""
MAX_STEPS = 2**53
"""Larger numbers of steps are damage."""
NEW_ENTRIES = ("rollbacks", "spikes")
"""Entries of ``trainer/`` that older checkpoints lack."""
RANDOM_STATE = {"torch", "numpy_keys", "numpy_rest", "random_words", "random_gauss"}
"""Entries of every random state; one of a process with a GPU has another."""


def load_training_state(trainer: Trainer, source: WeightSource, *, again: bool = False) -> None:
    """Fill an uninitialised trainer from `source`, and with fresh values for what `source` lacks.

    again: this process loaded it before, and has logged what differs.

    Raises UserError when something does not fit.
    """
    config, model, ema, mesh = trainer.config, trainer.model, trainer.ema, trainer.mesh
    loaded = Loaded()
    resumes = source.kind == "resume"
    if source.path is not None and resumes:
        _check_format(source.path / "trainer", mesh)
        places = places_of_base(config, trainer.family)
        base, loaded = load_checkpoint(source.path, model, ema, mesh, seed=trainer.rng.seed, whole=True, places=places)
    elif source.path is not None:
        skip, strict = config.checkpoint.keys_to_skip_loading, config.checkpoint.strict_resume
        num_layers = trainer.family.num_layers
        loaded = load_base(source.path, model, ema, mesh, skip=skip, strict=strict, num_layers=num_layers)
    fresh = initialise_rest(model, trainer.family, trainer.rng, loaded.tensors)
    restarted = ema.restart(loaded.averages) if ema is not None else []
    check_finite(model, ema, mesh, source.path)
    if source.path is not None and trainer.is_main and not again:
        log_differences(config.model, loaded, fresh, restarted)
    if source.path is not None and resumes:
        trainer.base = base_on_resume(trainer, source.path, base)
        _restore_training(trainer, source.path)
    else:
        trainer.base = base_of_start(trainer, source, loaded)
    if trainer.base is not None and trainer.is_main:
        note_base_user(trainer.base, trainer.paths.root.resolve())


def _check_format(folder: Path, mesh: Mesh) -> None:
    """Check before loading, since in another format the tensors might not match."""
    if "format" in stored_keys(folder):
        values: dict[str, Any] = {"format": None}
        load_component(folder, values, mesh)
        check_format(values, folder, TRAINER_FORMAT)


def _restore_training(trainer: Trainer, checkpoint: Path) -> None:
    optim = optimizer_templates(trainer.model, trainer.optimizer, stored_keys(checkpoint / "optim"))
    state: dict[str, dict[str, Any]] = {
        "optim": dict(optim),
        "scheduler": {"last_epoch": None},
        "trainer": _trainer_template(trainer, stored_keys(checkpoint / "trainer")),
    }
    for name, component in state.items():
        load_component(checkpoint / name, component, trainer.mesh)
    _check_counters(state, checkpoint)
    loader_states = load_loader_states(checkpoint / "dataloader")
    if not loader_states or not all(is_loader_state(entry) for entry in loader_states):
        loader_states = []
        if trainer.is_main:
            logger.warning("%s does not say how far the data was read; it starts from the beginning", checkpoint)
    trainer.load_state_dict(state, loader_states)


def _check_counters(state: Mapping[str, Mapping[str, Any]], checkpoint: Path) -> None:
    """Raises UserError for steps that no run has completed, and other counts and numbers that no run writes."""
    counts = (
        ("scheduler", "last_epoch", "steps"),
        ("trainer", "iteration", "steps"),
        ("trainer", "rollbacks", "times"),
    )
    problems = [
        Problem(message=f"is {value!r:.80}, not a number of {unit}", key=key, file=str(checkpoint / part))
        for part, key, unit in counts
        if key in state[part] and (type(value := state[part][key]) is not int or not 0 <= value <= MAX_STEPS)
    ]
    if not is_spikes_state(spikes := state["trainer"].get("spikes", [])):
        message = f"is {spikes!r:.80}, not the metrics of the last steps"
        problems.append(Problem(message=message, key="spikes", file=str(checkpoint / "trainer")))
    if problems:
        raise UserError("the checkpoint does not say how far it was trained; nothing was started", problems)


def _trainer_template(trainer: Trainer, stored: set[str]) -> dict[str, Any]:
    """The stored parts of the component ``trainer``.

    Random states of the cosmos-framework scripts have another form and are skipped; training draws from `CounterRng`
    and does not need them.
    """
    template: dict[str, Any] = {"iteration": None, **{name: None for name in NEW_ENTRIES if name in stored}}
    own = f"rng_state_{trainer.mesh.rank}"
    randomness = {name: value for name, value in random_state().items() if f"{own}.{name}" in stored}
    if randomness.keys() >= RANDOM_STATE:
        template[own] = randomness
    callbacks = _callbacks_template(trainer, stored)
    return {**template, "callbacks": callbacks} if callbacks else template


def _callbacks_template(trainer: Trainer, stored: set[str]) -> dict[str, Any]:
    """The states of callbacks that are stored whole; DCP stores each entry of a dictionary or of a list of tensors."""
    template: dict[str, Any] = {}
    for name, callback in trainer.callbacks.items():
        prefix, values = f"callbacks.{name}", callback.state_dict()
        own, _ = flatten_state_dict({prefix: values})
        fits = own and own.keys() <= stored
        if fits:
            template[name] = values
        kept = own.keys() if fits else ()
        lost = sorted(key for key in stored if key.startswith(f"{prefix}.") and key not in kept)
        if lost and trainer.is_main:
            logger.warning("callback '%s' does not get back what it has no place for: %s", name, ", ".join(lost))
    return template
