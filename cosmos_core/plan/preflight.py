"""Checks of a plan before any process starts."""

from __future__ import annotations

from collections.abc import Iterator
from os import W_OK, X_OK, access
from os.path import exists, isdir
from shutil import disk_usage

from attrs import evolve

from cosmos_core.config.dump import to_plain
from cosmos_core.config.files import FileDatasetConfig
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig
from cosmos_core.config.secrets import secret_keys
from cosmos_core.errors import Problem
from cosmos_core.plan.disk_use import files_below
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.leftovers import leftover_bytes
from cosmos_core.plan.newer import newer_records
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin.descriptors import CallbackSpec, DatasetSpec, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["mismatched_records", "preflight", "unsupported_policies"]

MIB = 2**20
MARGIN = 64 * MIB
"""Bytes that logs, pictures and a small model take."""


def preflight(plan: RunPlan, plugins: PluginManager) -> None:
    """Raises UserError with the plan's problems and all that core or a plugin finds; nothing for a finished run."""
    if plan.finished:
        return
    problems = [*plan.problems, *newer_records(plan), *_secrets(plan), *_changes(plan), *_no_steps(plan)]
    problems += [
        *mismatched_records(plan.config, plugins),
        *unsupported_policies(plan.config, plugins),
        *_callbacks(plan, plugins),
        *_media_roots(plan),
        *_no_base(plan),
        *_space(plan),
        *plugins.check_run(plan),
    ]
    evolve(plan, problems=tuple(dict.fromkeys(problems))).without_problems()


def _secrets(plan: RunPlan) -> list[Problem]:
    """Values that the record of the run must not hold."""
    message = "holds a password or token, and the configuration is recorded in the run directory"
    hint = "leave it to an environment variable that the program reads itself, such as HF_TOKEN or WANDB_API_KEY"
    return [Problem(message=message, key=key, hint=hint) for key in secret_keys(to_plain(plan.config))]


def _changes(plan: RunPlan) -> list[Problem]:
    """Changes that alter what the checkpoint's tensors or the objective mean."""
    rejected = [change for change in plan.changes if change.rejected]
    problems = []
    for change in rejected:
        hint = "change it back"
        if change is rejected[-1] and change.key != "job.task" and _weights_alone(plan):
            own = "job.name=NAME " if plan.resumes_itself else ""
            hint += f", or start a run from these weights alone: {own}{_weights_alone(plan)}"
        message = f"is {value_text(change.new)}, {plan.weights.label} was trained with {value_text(change.old)}"
        problems.append(Problem(message=message, key=change.key, hint=hint))
    return problems


def _weights_alone(plan: RunPlan) -> str:
    """The override that takes the checkpoint's weights and nothing else; "" for a run of adapters alone."""
    path = plan.weights.path
    base = FrozenBase.read(path) if path is not None else None
    return f"checkpoint.load_path={path}/model" if path is not None and (base is None or base.rank is None) else ""


def _no_steps(plan: RunPlan) -> list[Problem]:
    """Another run's checkpoint with all steps done, so that this run would end at once."""
    done, last = plan.weights.step, plan.config.trainer.max_iter
    if done is None or done < last or plan.finished:
        return []
    message = f"is {last}, but {plan.weights.path} has {done} steps already, so nothing would be trained"
    hint = "raise it"
    if _weights_alone(plan):
        hint += f", or count from 0 with these weights alone: {_weights_alone(plan)}"
    return [Problem(message=message, key="trainer.max_iter", hint=hint)]


def mismatched_records(config: RunConfig, plugins: PluginManager) -> list[Problem]:
    """Datasets whose records the family does not accept."""
    family = plugins.registry.get(ModelFamilySpec, config.job.task)
    problems = []
    for name, loader in config.dataloaders.items():
        specs = {key: plugins.registry.get(DatasetSpec, data.type) for key, data in loader.datasets.items()}
        for key, dataset in specs.items():
            if dataset.yields not in family.accepts:
                message = (
                    f"dataset '{dataset.name}' yields '{dataset.yields}', "
                    f"model family '{family.name}' accepts {', '.join(family.accepts)}"
                )
                problems.append(Problem(message=message, key=f"{name}.{key}.type", hint="choose a matching pair"))
        if len({dataset.yields for dataset in specs.values()}) > 1:
            records = ", ".join(f"'{dataset.name}' yields '{dataset.yields}'" for dataset in specs.values())
            message = f"its members are of several kinds: {records}"
            problems.append(Problem(message=message, key=f"{name}.mixture", hint="mix datasets of one kind"))
    return problems


def unsupported_policies(config: RunConfig, plugins: PluginManager) -> Iterator[Problem]:
    """Loaders whose `overlong` is not for the family or for their datasets."""
    family = plugins.registry.get(ModelFamilySpec, config.job.task)
    for section, loader in config.dataloaders.items():
        datasets = [plugins.registry.get(DatasetSpec, dataset.type) for dataset in loader.datasets.values()]
        common = [policy for policy in family.overlong if all(policy in dataset.overlong for dataset in datasets)]
        if loader.overlong not in common:
            without = [f"dataset '{dataset.name}'" for dataset in datasets if loader.overlong not in dataset.overlong]
            whose = " and ".join(without) if loader.overlong in family.overlong else f"family '{family.name}'"
            message = f"'{loader.overlong}' is not for {whose}"
            yield Problem(message=message, key=f"{section}.overlong", hint=f"one of {', '.join(common)}")


def _media_roots(plan: RunPlan) -> Iterator[Problem]:
    """Folders for media that are not there."""
    for name, loader in plan.config.dataloaders.items():
        for key, dataset in loader.datasets.items():
            roots = dataset.media_roots if isinstance(dataset, FileDatasetConfig) else ()
            for index, folder in enumerate(roots):
                if not isdir(folder):
                    yield Problem(message=f"no such folder: {folder}", key=f"{name}.{key}.media_roots[{index}]")


def _no_base(plan: RunPlan) -> list[Problem]:
    """Frozen weights that are to be left to a base, in a run that has none."""
    if plan.config.checkpoint.include_frozen is not False or plan.weights.kind != "scratch":
        return []
    message = "is false, but the run starts from fresh weights, so there is no base to leave frozen ones to"
    return [Problem(message=message, key="checkpoint.include_frozen", hint="leave it out")]


def _callbacks(plan: RunPlan, plugins: PluginManager) -> list[Problem]:
    """Callbacks for other tasks."""
    task = plan.config.job.task
    problems = []
    for name in plan.config.trainer.callbacks:
        callback = plugins.registry.get(CallbackSpec, name)
        if not callback.serves(task):
            names = ", ".join(f"'{known}'" for known in callback.tasks)
            message = f"callback '{callback.name}' is for task {names}, this run's task is '{task}'"
            problems.append(Problem(message=message, key=f"trainer.callbacks.{name}", hint="remove its table"))
    return problems


def _space(plan: RunPlan) -> list[Problem]:
    """A place that cannot be written, or has too little space for one checkpoint.

    The space is estimated from the checkpoint that the run starts from.
    """
    needed = MARGIN
    # What trains is not known here, so a base that keeps the frozen weights says nothing.
    left_out = plan.weights.kind != "resume" and plan.config.checkpoint.include_frozen is False
    if plan.weights.path is not None and not left_out:
        needed += sum(facts.st_size for _, facts in files_below(plan.weights.path, follow_links=True))
    existing = next(path for path in (plan.run_dir, *plan.run_dir.absolute().parents) if exists(path))
    if not isdir(existing) or not access(existing, W_OK | X_OK):
        message = f"{existing} is {'a folder that you may not write to' if isdir(existing) else 'a file'}"
        return [Problem(message=message, hint="choose another --output-root or job.name")]
    free = disk_usage(existing).free + leftover_bytes(RunPaths(plan.run_dir).checkpoints)
    if free >= needed:
        return []
    message = f"{existing} has {free / MIB:,.0f} MiB free, a checkpoint takes about {needed / MIB:,.0f} MiB"
    return [Problem(message=message, hint="free some space, or choose another --output-root")]
