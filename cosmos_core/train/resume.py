"""Puts a checkpoint back into a run: weights alone, or everything."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from cosmos_core.checkpoint.base import AdapterBase, fingerprint
from cosmos_core.checkpoint.load import Loaded, load_component, load_loader_states
from cosmos_core.checkpoint.reader import stored_keys
from cosmos_core.checkpoint.state import optimizer_templates, random_state, restore_optimizer, restore_random_state
from cosmos_core.config.document import read_document
from cosmos_core.config.dump import to_plain
from cosmos_core.config.interpolate import key_text
from cosmos_core.config.model import AdaptedModelConfig
from cosmos_core.data.order import is_loader_state
from cosmos_core.errors import Problem, UserError
from cosmos_core.optim.lora import trains_only_lora
from cosmos_core.plan.layout import RunLayout
from cosmos_core.plan.plan import Resume
from cosmos_core.train.run import Run
from cosmos_core.train.weights import initialise_rest, load_base, load_checkpoint, log_differences

__all__ = ["restore_into"]

logger = logging.getLogger(__name__)


def restore_into(run: Run, source: Resume) -> None:
    """Load what `source` names. Raises UserError when it does not fit."""
    state, checkpoint = run.state, run.state.config.checkpoint
    loaded = Loaded()
    if source.kind == "resume" and source.path is not None:
        _compare_config(run, source.path)
        run.base, loaded = load_checkpoint(source.path, state.model, run.ema, state.mesh, seed=state.streams.seed)
    elif source.path is not None:
        skip, strict = checkpoint.keys_to_skip_loading, checkpoint.strict_resume
        loaded = load_base(source.path, state.model, run.ema, state.mesh, skip=skip, strict=strict)
    fresh = initialise_rest(state.model, state.family, state.streams, loaded.tensors)
    restarted = run.ema.restart(loaded.averages) if run.ema is not None else []
    if source.path is not None and state.is_main:
        log_differences(state.config.model, loaded, fresh, restarted)
    if source.kind == "resume" and source.path is not None:
        _restore_training(run, source.path)
    elif trains_only_lora(state.model):
        run.base = _base(run, source)


def _base(run: Run, source: Resume) -> AdapterBase:
    model = run.state.config.model
    assert isinstance(model, AdaptedModelConfig)
    folder = source.path / "model" if source.path is not None else getattr(run.state.family, "weights_folder", None)
    return AdapterBase(
        folder=str(folder.resolve()) if folder is not None else "",
        digest=fingerprint(folder) if folder is not None else "",
        dcp=source.path is not None,
        rank=model.lora_rank,
        alpha=model.lora_alpha,
        seed=run.state.streams.seed if folder is None else None,
    )


def _restore_training(run: Run, path: Path) -> None:
    state = run.state
    moments = optimizer_templates(state.model, state.optimizer, stored_keys(path / "optim"))
    load_component(path / "optim", moments, state.mesh)
    restore_optimizer(state.model, state.optimizer, moments)
    _restore_schedule(run, path / "scheduler")
    _restore_trainer(run, path / "trainer")
    states = load_loader_states(path / "dataloader")
    if states and all(is_loader_state(state) for state in states):
        run.loader.load_state(states)
    elif state.is_main:
        logger.warning("%s says not how far the data was read; it begins anew", path)
    run.loader_state = run.loader.state()
    run.saved_step = state.step


def _restore_schedule(run: Run, folder: Path) -> None:
    """Continue the schedule at its step; rates follow the present configuration."""
    scheduler, values = run.scheduler, {"last_epoch": 0, "_step_count": 0}
    load_component(folder, values, run.state.mesh)
    scheduler.last_epoch, scheduler._step_count = values["last_epoch"], values["_step_count"]
    factors = [shape(scheduler.last_epoch) for shape in scheduler.lr_lambdas]
    rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
    for group, rate in zip(run.state.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates


def _restore_trainer(run: Run, folder: Path) -> None:
    state, mine = run.state, f"rng_state_{run.state.mesh.rank}"
    stored = stored_keys(folder)
    values: dict[str, Any] = {"iteration": 0}
    randomness = {name: value for name, value in random_state().items() if f"{mine}.{name}" in stored}
    # The cosmos-framework training scripts pack theirs in another form; training draws from streams and needs none.
    if {"torch", "numpy_keys", "random_words"} <= randomness.keys():
        values[mine] = randomness
    callbacks = {name: callback.state_dict() for name, callback in run.callbacks.items()}
    kept = {
        name: values
        for name, values in callbacks.items()
        if values and all(f"callbacks.{name}.{key}" in stored for key in values)
    }
    if kept:
        values["callbacks"] = kept
    load_component(folder, values, state.mesh)
    state.step = int(values["iteration"])
    if mine in values:
        restore_random_state(values[mine])
    for name, entry in values.get("callbacks", {}).items():
        run.callbacks[name].load_state_dict(entry)


def _compare_config(run: Run, path: Path) -> None:
    """A changed [model] key is an error, any other change is listed."""
    recorded = RunLayout(path.parent.parent).config_toml
    if not recorded.is_file() or recorded.parent == run.layout.root:
        return
    old, new = _flat(read_document(recorded).values), _flat(to_plain(run.state.config))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    model = [key for key in changed if key[0] == "model" and key[1:2] != ("parallelism",) and key[1] != "init"]
    if model:
        problems = [
            Problem(message=f"is {new.get(key)!r}, the checkpoint has {old.get(key)!r}", key=key_text(key))
            for key in model
        ]
        raise UserError(f"the model differs from the one in {path}; nothing was started", problems)
    if changed and run.state.is_main:
        names = ", ".join(key_text(key) for key in changed if key[0] != "job")
        logger.warning("resuming with other settings than the checkpoint's: %s", names)


def _flat(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, (*prefix, key)))
        elif value is not None:
            flat[(*prefix, key)] = value
    return flat
