"""Builds a run's parts in order, trains, and takes everything down again."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from attrs import evolve, frozen

from cosmos_core.config.run import DataloaderConfig, RunConfig
from cosmos_core.data.loader import PackedLoader
from cosmos_core.data.source import IdentifiedSource
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.runtime import started
from cosmos_core.distributed.seeds import Streams
from cosmos_core.optim.adamw import build_adamw
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.schedule import build_scheduler
from cosmos_core.optim.select import rate_names
from cosmos_core.plan.layout import RunLayout
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.record import record_origins
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.agreement import agreed, refuse_unlike_data
from cosmos_core.train.build import build_family, materialise, needs_mixed_precision
from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.loop import train
from cosmos_core.train.nonfinite import NonFiniteGuard
from cosmos_core.train.resume import restore_into
from cosmos_core.train.run import Run, Trackers
from cosmos_core.train.state import TrainState
from cosmos_core.train.stop import StopRequests

__all__ = ["Result", "build_loader", "run", "validation_loader"]


@frozen
class Result:
    """outcome: 'done', 'stopped' or, when the keyboard asked, 'interrupted'; a checkpoint of the end exists then.

    step: completed optimizer steps. seconds: wall clock of the loop."""

    outcome: str
    step: int
    seconds: float


def run(plan: RunPlan, plugins: PluginManager) -> Result:
    """Execute a plan; called on every rank. Raises UserError for what the user can fix."""
    mixed = needs_mixed_precision(plan.config.model)
    with started(plan.degrees, mixed_precision=mixed) as mesh:
        plan = agreed(plan, mesh)
        session = _build(plan, plugins, mesh)
        restore_into(session, plan.resume)
        if session.state.is_main:
            record_origins(session.layout, _origins(session))
            session.loader.announce()
            session.trackers.call("start", plan, session.state.step)
        begun = time.perf_counter()
        outcome = "failed"
        try:
            with session.stop.listening():
                outcome = train(session)
                if outcome == "stopped" and session.stop.interrupted:
                    outcome = "interrupted"
        finally:
            session.trackers.call("finish", outcome)
        return Result(outcome, session.state.step, time.perf_counter() - begun)


def _origins(session: Run) -> dict[str, str]:
    """What the family fetched, and which data the run sees."""
    origins = dict(getattr(session.state.family, "origins", {}))
    if isinstance(session.loader.source, IdentifiedSource):
        origins["dataloader_train.dataset"] = session.loader.source.identity
    return origins


def _build(plan: RunPlan, plugins: PluginManager, mesh: Mesh) -> Run:
    config, layout = plan.config, RunLayout(plan.run_dir)
    streams = Streams(config.trainer.seed)
    family = build_family(config, plugins, mesh.device)
    model = materialise(config, family, mesh)
    optimizer = build_adamw(model, config.optimizer)
    ema = Ema(model, config.model.ema) if config.model.ema.enabled else None
    loader = build_loader(config.dataloader_train, family, plugins, mesh)
    assert loader is not None
    validation = validation_loader(config, family, plugins, mesh) if config.trainer.run_validation else None
    refuse_unlike_data([one.source for one in (loader, validation) if one is not None], mesh)
    trackers = Trackers(_trackers(config, plugins) if mesh.rank == 0 else {})

    state = TrainState(
        config=config,
        family=family,
        model=model,
        optimizer=optimizer,
        mesh=mesh,
        streams=streams,
        step=0,
        max_iter=config.trainer.max_iter,
        log=trackers.log,
        ema_weights=lambda: _averaged(built),
        train_source=loader.source,
        validation_source=validation.source if validation is not None else None,
    )
    built = Run(
        state=state,
        layout=layout,
        scheduler=build_scheduler(optimizer, config.scheduler),
        ema=ema,
        loader=loader,
        validation=validation,
        callbacks=_callbacks(config, plugins, layout, main=mesh.rank == 0),
        trackers=trackers,
        stop=StopRequests(layout.stop_request),
        loader_state=loader.state(),
        guard=NonFiniteGuard(config.trainer, model, mesh),
        rate_names=rate_names(model, config.optimizer),
    )
    return built


def _averaged(run: Run) -> AbstractContextManager[None]:
    """The average, the last step in it, in place of the live weights while inside."""
    run.settle()
    return run.ema.swapped_in() if run.ema is not None else nullcontext()


def validation_loader(
    config: RunConfig, family: ModelFamily, plugins: PluginManager, mesh: Mesh
) -> PackedLoader | None:
    """One pass over the validation data, from the training data's cache where it has none of its own."""
    section = config.dataloader_val
    if section is not None and section.cache is None:
        section = evolve(section, cache=config.dataloader_train.cache)
    return build_loader(section, family, plugins, mesh, epochs=1, name="dataloader_val")


def build_loader(
    config: DataloaderConfig | None,
    family: ModelFamily,
    plugins: PluginManager,
    mesh: Mesh,
    epochs: int | None = None,
    name: str = "dataloader_train",
) -> PackedLoader | None:
    if config is None:
        return None
    source = plugins.catalog.dataset(config.dataset.type).source.load()(config.dataset)
    return PackedLoader(
        source,
        config=config,
        prepare=family.prepare,
        cost=family.cost,
        rank=mesh.data_rank,
        world=mesh.data_world,
        epochs=epochs,
        cap=getattr(family, "max_pack_tokens", None),
        section=name,
    )


def _trackers(config: RunConfig, plugins: PluginManager) -> dict[str, Any]:
    built = {}
    for spec in plugins.catalog.trackers():
        if spec.always or spec.name in config.trackers:
            options = config.trackers.get(spec.name) or spec.config.load()()
            built[spec.name] = spec.tracker.load()(options)
    return built


def _callbacks(config: RunConfig, plugins: PluginManager, layout: RunLayout, *, main: bool) -> dict[str, Callback]:
    """Those that always run, then the recipe's in its order; each gets a folder in the run directory."""
    chosen = config.trainer.callbacks
    names = [spec.name for spec in plugins.catalog.callbacks() if spec.always and spec.name not in chosen]
    built = {}
    for name in (*names, *chosen):
        spec = plugins.catalog.callback(name)
        folder = layout.callback(spec.folder or spec.name)
        if main:
            folder.mkdir(parents=True, exist_ok=True)
        options = chosen.get(name) or spec.config.load()()
        built[name] = spec.callback.load()(options, CallbackContext(folder=folder, run_dir=layout.root))
    return built
