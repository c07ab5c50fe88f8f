"""From a plan to the parts of a run: family, network, data, callbacks, trackers, and the trainer around them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from attrs import evolve
from torch import nn

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DataloaderConfig, DatasetConfig, OptimizerConfig, RunConfig, TrackerConfig
from cosmos_core.data.loader import PackedLoader
from cosmos_core.data.mixture import Member, Mixture
from cosmos_core.data.preparation import Preparation
from cosmos_core.data.source import MapSource
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.errors import Problem, UserError, as_problems, first_line, in_table
from cosmos_core.launch.stop import StopRequests
from cosmos_core.optim.adamw import build_adamw
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.schedule import build_scheduler
from cosmos_core.optim.select import parameter_groups, select_trainable
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin.descriptors import CallbackSpec, DatasetSpec, ModelFamilySpec, TrackerSpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.activity import Activity
from cosmos_core.train.agreement import check_same_dataset, raise_if_any_rank_failed
from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.family import BuildContext, ModelFamily
from cosmos_core.train.sample_log import SampleLog
from cosmos_core.train.scores import Scoring
from cosmos_core.train.startup import StartUp
from cosmos_core.train.tracker import Tracker, TrackerGroup, tracker_class
from cosmos_core.train.trainer import Trainer

__all__ = [
    "build_family",
    "build_loader",
    "build_trainer",
    "materialise",
    "needs_mixed_precision",
    "open_data",
    "open_dataset",
    "preparation_of",
    "validation_loader",
]


logger = logging.getLogger(__name__)


def needs_mixed_precision(model: ModelConfig) -> bool:
    """Whether weights are stored in another dtype than they are used in."""
    return model.parallelism.fsdp_master_dtype != model.precision


def build_family(config: RunConfig, plugins: PluginManager, device: torch.device) -> ModelFamily:
    """The model family that `job.task` names."""
    family = plugins.registry.get(ModelFamilySpec, config.job.task).family.load()
    return family(config.model, BuildContext(device=device, data=config.dataloader_train))


def materialise(config: RunConfig, family: ModelFamily, mesh: Mesh) -> nn.Module:
    """Build on the meta device, select what trains, cast, shard, allocate. The memory is uninitialised.

    Trained weights are cast to the master dtype, frozen ones to the compute dtype.
    """
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


def build_trainer(
    plan: RunPlan,
    plugins: PluginManager,
    mesh: Mesh,
    startup: StartUp | None = None,
    stop: StopRequests | None = None,
    activity: Activity | None = None,
    *,
    data: Sequence[MapSource] | None = None,
) -> Trainer:
    """All parts of a run; weights and moments are uninitialised until `load_training_state`.

    startup: clock of the phases before the first step. stop: requests to stop; by default the run directory's file.
    activity: for the watch. data: as `open_data` returns it; absent: opened first, since a network takes long to build.
    Raises UserError, on every rank if the data cannot be opened or differs between ranks.
    """
    config, paths = plan.config, RunPaths(plan.run_dir)
    startup = startup or StartUp(silent=True)
    sources = open_data(config, plugins, mesh) if data is None else data
    family = build_family(config, plugins, mesh.device)
    startup.mark("family")
    model = materialise(config, family, mesh)
    optimizer = build_adamw(model, config.optimizer)
    if mesh.rank == 0:
        _warn_of_rates(config.optimizer, model)
    startup.mark("network")
    loader = build_loader(config.dataloader_train, family, plugins, mesh, source=sources[0])
    assert loader is not None
    validation = validation_loader(config, family, plugins, mesh, source=sources[1]) if sources[1:] else None
    return Trainer(
        config=config,
        mesh=mesh,
        rng=CounterRng(config.trainer.seed),
        family=family,
        model=model,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, config.scheduler),
        ema=Ema(model, config.model.ema) if config.model.ema.enabled else None,
        loader=loader,
        validation=validation,
        callbacks=_callbacks(config, plugins, paths, main=mesh.rank == 0),
        trackers=TrackerGroup(_trackers(config, plugins) if mesh.rank == 0 else {}),
        paths=paths,
        activity=activity or Activity(),
        stop=stop or StopRequests(paths.stop_request),
        source=plan.weights,
        loader_state=loader.state(),
        launch=plan.launch,
        startup=startup,
        scoring=_scoring(config, plugins) if sources[1:] else Scoring(),
    )


def _scoring(config: RunConfig, plugins: PluginManager) -> Scoring:
    assert config.dataloader_val is not None
    return Scoring.of([data.type for data in config.dataloader_val.datasets.values()], plugins)


def open_data(config: RunConfig, plugins: PluginManager, mesh: Mesh) -> list[MapSource]:
    """The training data and, if there is validation, the validation data. Raises UserError on every rank."""
    sources: list[MapSource] = []
    failure: UserError | None = None
    try:
        sources += [open_dataset(section, plugins, name) for name, section in config.data_sections.items()]
    except UserError as error:
        failure = error
    raise_if_any_rank_failed(failure, mesh)
    check_same_dataset(sources, mesh)
    return sources


def open_dataset(config: DataloaderConfig, plugins: PluginManager, section: str = "dataloader_train") -> MapSource:
    """A section's data, several datasets as one. section: for messages.

    Raises UserError, also for files that the system does not let it read, with what is wrong with all members.
    """
    sources: dict[str, MapSource] = {}
    errors: list[UserError] = []
    for key, dataset in config.datasets.items():
        try:
            sources[key] = _open(dataset, f"{section}.{key}", plugins)
            if config.mixture and not len(sources[key]):
                problem = Problem(message="holds no samples", key=f"{section}.{key}", hint="remove it")
                raise UserError(f"dataset '{dataset.label}' is empty; nothing was started", [problem])
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        problems = [problem for error in errors for problem in as_problems(error, "")]
        raise UserError(f"{len(errors)} datasets cannot be opened; nothing was started", problems)
    if not config.mixture:
        return sources["dataset"]
    members = [
        Member(
            source=source,
            name=config.datasets[key].label,
            weight=config.datasets[key].weight or 0.0,
            key=key,
        )
        for key, source in sources.items()
    ]
    return Mixture(members)


def _open(dataset: DatasetConfig, key: str, plugins: PluginManager) -> MapSource:
    """One dataset. Raises UserError whose problems name the keys of its table, which lies at `key`."""
    title = f"dataset '{dataset.label}' cannot be opened; nothing was started"
    try:
        source: MapSource = plugins.registry.get(DatasetSpec, dataset.type).source.load()(dataset)
    except OSError as error:
        problem = Problem(message=error.strerror or first_line(error), file=str(error.filename or ""))
        raise UserError(title, [problem]) from error
    except UserError as error:
        raise UserError(error.title, in_table(error.problems, key)) from error
    return source


def _warn_of_rates(config: OptimizerConfig, model: nn.Module) -> None:
    groups = parameter_groups(model, config)
    if config.lr and not any(group.rate for group in groups):
        logger.warning("no step changes a weight: optimizer.lr_multipliers is 0 for everything that trains")
    idle = config.lr_multipliers.keys() - {group.multiplier for group in groups}
    if idle:
        names = ", ".join(sorted(idle))
        logger.warning("optimizer.lr_multipliers has no effect for what does not train: %s", names)


def validation_loader(
    config: RunConfig, family: ModelFamily, plugins: PluginManager, mesh: Mesh, *, source: MapSource | None = None
) -> PackedLoader | None:
    """One pass over the validation data, with the training data's cache if it has none. source: it, once opened."""
    section = config.dataloader_val
    if section is not None and section.cache is None:
        section = evolve(section, cache=config.dataloader_train.cache)
    return build_loader(section, family, plugins, mesh, epochs=1, name="dataloader_val", source=source)


def build_loader(
    config: DataloaderConfig | None,
    family: ModelFamily,
    plugins: PluginManager,
    mesh: Mesh,
    epochs: int | None = None,
    name: str = "dataloader_train",
    *,
    source: MapSource | None = None,
) -> PackedLoader | None:
    """A section's dataset behind its loader, on this rank; None without a section.

    epochs: how many passes, endless when absent. name: of the section, for messages. source: the dataset, once opened.
    Raises UserError.
    """
    if config is None:
        return None
    return PackedLoader(
        source if source is not None else open_dataset(config, plugins, name),
        config=config,
        preparation=preparation_of(family),
        rank=mesh.data_rank,
        world=mesh.data_world,
        epochs=epochs,
        cap=family.max_pack_tokens,
        section=name,
    )


def preparation_of(family: ModelFamily) -> Preparation:
    """What the family does to records."""
    return Preparation(family.prepare, family.num_tokens, family.kind, family.shorten)


def _trackers(config: RunConfig, plugins: PluginManager) -> dict[str, Tracker]:
    """Trackers that always run, and the recipe's; none whose table says that it is not enabled."""
    named = {name: plugins.registry.get(TrackerSpec, name) for name in config.trackers}
    always = [spec for spec in plugins.registry.all(TrackerSpec) if spec.always and spec not in named.values()]
    built: dict[str, Tracker] = {}
    for name, spec in {**{spec.name: spec for spec in always}, **named}.items():
        options = config.trackers.get(name) or spec.config.load()()
        if not isinstance(options, TrackerConfig) or options.enabled:
            built[name] = tracker_class(spec.tracker.load())(options)
    return built


def _callbacks(config: RunConfig, plugins: PluginManager, paths: RunPaths, *, main: bool) -> dict[str, Callback]:
    """Callbacks that always run, then the recipe's in order; each gets a folder in the run directory."""
    options = config.trainer.callbacks
    always = [spec for spec in plugins.registry.all(CallbackSpec) if spec.always and spec.serves(config.job.task)]
    names = [spec.name for spec in always if spec.name not in options]
    built = {}
    for name in (*names, *options):
        spec = plugins.registry.get(CallbackSpec, name)
        folder = paths.callback(spec.folder or spec.name)
        if main:
            folder.mkdir(parents=True, exist_ok=True)
        section = options.get(name) or spec.config.load()()
        built[name] = spec.callback.load()(section, CallbackContext(folder=folder, run_dir=paths.root))
    if config.trainer.log_samples:
        built["log_samples"] = SampleLog(paths)
    return built
