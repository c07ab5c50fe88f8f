"""What a folder with weights is, for commands that take any: run, checkpoint, base, published folder, export."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import chain
from os.path import isdir
from pathlib import Path

from attrs import evolve, field, frozen

from cosmos_core.config.env import output_root
from cosmos_core.errors import Problem, UserError
from cosmos_core.hub.reference import locate_checkpoint
from cosmos_core.names import did_you_mean
from cosmos_core.plan.checkpoint import damaged, latest_complete
from cosmos_core.plan.hold import Hold
from cosmos_core.plan.manifest import damage
from cosmos_core.plan.paths import BASE_FILE, EXPORT_CONFIG, RunPaths, step_of
from cosmos_core.plan.runs import run_called, run_names, tell_passed_over
from cosmos_core.plan.trained import trained_by
from cosmos_core.plugin.descriptors import CheckpointSpec, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["Source", "check_reads", "find_source", "identify", "locate_source", "named_folder"]

ATTEMPTS = 10
"""To hold a checkpoint. A file system whose folders never look the same twice would need more."""
ADAPTERS = "adapters"
"""What plugins answer for exported adapters, which are no weights by themselves."""
LOOKED_FOR = "looked for a run (checkpoints/, config.toml), a checkpoint or a converted base (model/.metadata)"


@frozen(kw_only=True)
class Source:
    """A folder with weights.

    kind: 'run', 'checkpoint' (one of a run's), 'base' (converted), or 'published' (as released, or exported). folder:
    the run directory, the folder above ``model/``, or the published folder.

    weights: the folder above ``model/``, or the published folder; None of a run without a complete checkpoint. record:
    the configuration of the launch that trained it, None if unknown. format: of a published folder, as its plugin calls
    it. hold: while it lives, a run that goes on does not remove the checkpoint.
    """

    kind: str
    folder: Path
    weights: Path | None
    record: Path | None = None
    format: str = ""
    hold: Hold | None = field(default=None, eq=False, repr=False)

    @property
    def run_dir(self) -> Path | None:
        """The run that it belongs to, if that is known."""
        if self.kind == "run":
            return self.folder
        return self.folder.resolve().parent.parent if self.kind == "checkpoint" and self.record is not None else None

    @property
    def label(self) -> str:
        """What it is, in words."""
        return {
            "run": "a run",
            "checkpoint": "a checkpoint of a run",
            "base": "a converted base",
            "published": f"published weights or an export (format '{self.format}')",
        }[self.kind]


def locate_source(
    name: str, plugins: PluginManager, *, step: int | None = None, others: Mapping[str, Collection[str]] | None = None
) -> Source:
    """What a folder, a run's name or a published name is. step: as in `find_source`.

    A published name's files are fetched if they are not here. others: more names that the caller takes, by what they
    are, for the message. Raises UserError when it is none of them, or cannot be fetched.
    """
    folder, root = named_folder(name, plugins), output_root()
    if folder is not None:
        return find_source(folder, plugins, step=step)
    others = others or {}
    kinds = ["no folder", f"no run below {root} (`cosmos runs list`)", *(f"no {kind}" for kind in others)]
    message = f"{name} is {', '.join(kinds)} and no published name (`cosmos checkpoints list`)"
    published = [spec.name for spec in plugins.registry.all(CheckpointSpec)]
    hint = did_you_mean(name, [*run_names(root), *published, *chain(*others.values())])
    raise UserError("there are no weights of that name", [Problem(message=message, hint=hint)])


def named_folder(name: str, plugins: PluginManager) -> Path | None:
    """A folder, or where those of a published name or else of a run's name are; None when it is none of them.

    Raises UserError when several runs have the name, or when it cannot be fetched.
    """
    if isdir(name):
        return Path(name)
    if any(name == spec.name for spec in plugins.registry.all(CheckpointSpec)):
        tell_passed_over(name, output_root(), "a published name")
        return locate_checkpoint(name, plugins.registry).path
    return run_called(name, output_root())


def find_source(path: Path, plugins: PluginManager, *, step: int | None = None) -> Source:
    """What a folder is. step: a checkpoint of a run; its latest when absent. Held: see `Source`.

    Raises UserError that lists what was looked for, or for a step that a run does not have, or for damage.
    """
    source = _held(path, plugins, step)
    if source is None:
        seen = LOOKED_FOR if isdir(path) else "is no folder"
        known = [
            Problem(message=f"for published weights of task '{spec.name}': looked for format {', '.join(spec.reads)}")
            for spec in plugins.registry.all(ModelFamilySpec)
            if spec.reads and isdir(path)
        ]
        problems = [Problem(message=seen, file=str(path)), *known]
        raise UserError(f"{path} is no run, checkpoint, base, export or published folder", problems)
    if step is not None and source.kind != "run":
        raise UserError(f"--step is for run directories; {path} is {source.label}")
    checkpoint = source.weights if source.kind != "published" else None
    if checkpoint is not None and (wrong := damage(checkpoint)):
        raise damaged(checkpoint, wrong, "nothing was loaded", "--step takes an earlier one of a run")
    return source


def _held(path: Path, plugins: PluginManager, step: int | None) -> Source | None:
    """As `identify`, with a hold if possible; a checkpoint that its run removes at this moment has a successor."""
    for _ in range(ATTEMPTS):
        source = identify(path, plugins, step=step)
        if source is None or source.weights is None or source.kind not in ("run", "checkpoint"):
            return source
        with suppress(FileNotFoundError):
            return evolve(source, hold=Hold(source.weights))
    return identify(path, plugins, step=step)


def identify(path: Path, plugins: PluginManager, *, step: int | None = None) -> Source | None:
    """As `find_source`; None for a folder that is nothing of these. Raises UserError for adapters without a base."""
    if not isdir(path):
        return None
    run_dir = _run_dir(path)
    if run_dir is not None:
        return _run(run_dir, step)
    above = path.resolve().parent if path.name == "model" and (path / ".metadata").is_file() else path
    if (above / "model/.metadata").is_file():
        return _with_model(above)
    format_name = plugins.identify_checkpoint(path)
    if format_name == ADAPTERS:
        hint = "export the run without --adapter, which folds them into their base"
        problem = Problem(message="holds adapters without the weights below them", file=str(path), hint=hint)
        raise UserError(f"{path} is an export of adapters alone", [problem])
    if format_name is None:
        return None
    config = path / EXPORT_CONFIG
    record = config if config.is_file() else None
    return Source(kind="published", folder=path, weights=path, record=record, format=format_name)


def check_reads(source: Source, task: str, plugins: PluginManager) -> None:
    """Raises UserError when a published folder is not of the task's model family."""
    family = plugins.registry.get(ModelFamilySpec, task)
    if source.kind != "published" or source.format in family.reads:
        return
    readers = [spec.name for spec in plugins.registry.all(ModelFamilySpec) if source.format in spec.reads]
    hint = f"take a recipe of task {' or '.join(map(repr, readers))}" if readers else ""
    message = f"is '{task}', which does not read {source.label}"
    problem = Problem(message=message, key="job.task", file=str(source.folder), hint=hint)
    raise UserError("weights and recipe are of different model families", [problem])


def _run_dir(path: Path) -> Path | None:
    """The run that a folder is, or is the ``checkpoints/`` of."""
    paths = RunPaths(path)
    if any(paths.checkpoints.glob("iter_*")) or paths.config_toml.is_file() or paths.launches.is_dir():
        return path
    holds_iterations = path.resolve().name == "checkpoints" and any(path.glob("iter_*"))
    return path.resolve().parent if holds_iterations else None


def _run(run_dir: Path, step: int | None) -> Source:
    paths = RunPaths(run_dir)
    weights = paths.iteration(step) if step is not None else latest_complete(paths.checkpoints)
    if step is not None and not (paths.iteration(step) / "model/.metadata").is_file():
        saved = sorted(number for folder in paths.checkpoints.glob("iter_*") if (number := step_of(folder)) is not None)
        hint = f"there are {', '.join(map(str, saved))}" if saved else "there are none yet"
        problem = Problem(message=f"no checkpoint of step {step}", file=str(paths.checkpoints), hint=hint)
        raise UserError(f"{run_dir} holds no complete checkpoint of step {step}", [problem])
    trained = trained_by(weights) if weights is not None else None
    own = paths.config_toml if paths.config_toml.is_file() else None
    return Source(kind="run", folder=run_dir, weights=weights, record=trained.config if trained is not None else own)


def _with_model(folder: Path) -> Source:
    resumable = (folder / "trainer/.metadata").is_file() or step_of(folder.resolve()) is not None
    if (folder / BASE_FILE).is_file() or not resumable:
        return Source(kind="base", folder=folder, weights=folder)
    trained = trained_by(folder)
    return Source(
        kind="checkpoint", folder=folder, weights=folder, record=trained.config if trained is not None else None
    )
