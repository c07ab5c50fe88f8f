"""Core's contributions, through the same hooks as every plugin's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.config.env import has_cublas_workspaces, is_set, lookup
from cosmos_core.errors import Problem
from cosmos_core.plugin.descriptors import (
    CallbackSpec,
    CommandSpec,
    DatasetSpec,
    DoctorSpec,
    MetricSpec,
    ModelFamilySpec,
    TrackerSpec,
)
from cosmos_core.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from cosmos_core.plan.plan import RunPlan

__all__ = ["COSMOS_API"]

COSMOS_API = 1

_COMMANDS = {
    "train": (
        ("run", "run:run", "Run a recipe, or resume it"),
        ("plan", "plan:plan", "Memory, time and disk of a run, beforehand"),
        ("eval", "eval:evaluate", "Validation metrics of a run"),
        ("report", "report:report", "A page of one or more runs"),
        ("runs", "runs:runs", "Runs of an output root"),
        ("runs list", "runs:list_all", "Runs with state, step, losses, age, disk"),
        ("runs show", "runs:show", "What is known of one run"),
        ("runs compare", "runs:compare", "How runs differ"),
        ("runs remove", "runs:remove", "Delete runs"),
        ("doctor", "doctor:doctor", "Check this machine"),
    ),
    "data": (
        ("data", "data:data", "Prepare datasets"),
        ("data prepare", "data:prepare", "Write a dataset to disk"),
        ("data check", "data_check:check", "What training would read"),
        ("data show", "data_show:show", "What the model would get"),
    ),
    "models": (
        ("checkpoints", "checkpoints:checkpoints", "Published checkpoints by name"),
        ("checkpoints list", "checkpoints:list_all", "Published checkpoints"),
        ("checkpoints fetch", "checkpoints:fetch", "Download one"),
        ("checkpoints verify", "checkpoints:verify", "Find damage in a run's checkpoints"),
        ("checkpoints pack", "checkpoints:pack", "Make a whole copy of one that needs its base"),
        ("convert", "convert:convert", "Convert a published checkpoint to a base"),
        ("export", "export:export", "Export a checkpoint for other programs"),
    ),
    "plugins": (
        ("plugins", "plugins:plugins", "What is installed, and a start for your own"),
        ("plugins list", "plugins:list_plugins", "Installed plugins and their state"),
        ("plugins show", "plugins:show", "What one plugin provides"),
        ("plugins check", "plugins:check", "Load everything a plugin refers to"),
        ("plugins hooks", "plugins:hooks", "The hooks a plugin may implement"),
        ("plugins new", "scaffold:new", "Write a plugin package"),
    ),
    "configuration": (
        ("recipes", "recipes:recipes", "Recipes by name or file"),
        ("recipes list", "recipes:list_all", "Installed recipes"),
        ("recipes show", "recipes:show", "A recipe after all layers"),
        ("recipes copy", "recipes:copy", "Copy a recipe to a file"),
        ("recipes check", "recipes:check", "Check recipe files"),
        ("config", "config:config", "The keys of recipes"),
        ("config explain", "config:explain", "Explain a key, or find keys by a word"),
        ("config schema", "config:schema", "JSON Schema of a recipe"),
        ("config reference", "config:reference", "Every key as Markdown"),
        ("completion", "completion:completion", "Shell completion"),
    ),
}
"""Group of `cosmos --help` -> words, reference below `cosmos_core.cli.commands`, and summary of its commands."""

_BUILTIN = "cosmos_core.builtin"


@hookimpl
def cosmos_commands() -> Iterable[CommandSpec]:
    """The commands of `cosmos` itself."""
    for group, commands in _COMMANDS.items():
        for words, reference, summary in commands:
            yield CommandSpec(
                path=words.split(), summary=summary, command=f"cosmos_core.cli.commands.{reference}", group=group
            )


@hookimpl
def cosmos_callbacks() -> Iterable[CallbackSpec]:
    """Gradient clipping, monitors, and the loss curve of every run."""
    yield CallbackSpec(
        name="grad_clip",
        summary="Bounds the global gradient norm",
        config=f"{_BUILTIN}.config:GradClip",
        callback=f"{_BUILTIN}.callbacks.grad_clip:GradClipCallback",
    )
    yield CallbackSpec(
        name="loss_curve",
        summary="Draws training and validation loss",
        config=f"{_BUILTIN}.config:LossCurve",
        callback=f"{_BUILTIN}.callbacks.loss_curve:LossCurveCallback",
        always=True,
    )
    for name, folder, kind, summary in (
        ("norm_monitor", "norm_monitor", "NormMonitor", "Norms of weights and gradients, layer by layer"),
        ("device_monitor", "DeviceMonitor", "DeviceMonitor", "Memory, temperature and load of every device"),
        ("iter_speed", "iter_speed", "IterSpeed", "Seconds a step, tokens a second"),
        ("profile", "profile", "Profile", "Trace of some steps, and of the GPU's memory"),
    ):
        yield CallbackSpec(
            name=name,
            summary=summary,
            config=f"{_BUILTIN}.config:{kind}",
            callback=f"{_BUILTIN}.callbacks.{name}:{kind}Callback",
            folder=folder,
        )


@hookimpl
def cosmos_trackers() -> Iterable[TrackerSpec]:
    """The console and the metrics file, always on; W&B and TensorBoard, if enabled."""
    yield TrackerSpec(
        name="console",
        summary="Progress on the terminal",
        config=f"{_BUILTIN}.config:Console",
        tracker=f"{_BUILTIN}.trackers.console:ConsoleTracker",
        always=True,
    )
    yield TrackerSpec(
        name="jsonl",
        summary="metrics.jsonl in the run directory",
        config=f"{_BUILTIN}.config:Jsonl",
        tracker=f"{_BUILTIN}.trackers.jsonl:JsonlTracker",
        always=True,
    )
    yield TrackerSpec(
        name="wandb",
        summary="Weights & Biases",
        config=f"{_BUILTIN}.config:Wandb",
        tracker=f"{_BUILTIN}.trackers.wandb:WandbTracker",
        always=True,
    )
    yield TrackerSpec(
        name="tensorboard",
        summary="TensorBoard event files",
        config=f"{_BUILTIN}.config:Tensorboard",
        tracker=f"{_BUILTIN}.trackers.tensorboard:TensorboardTracker",
    )


@hookimpl
def cosmos_metrics() -> Iterable[MetricSpec]:
    """General ones; each but the first is silent where the data has other answers."""
    for name, summary, errors in (
        ("exact_match", "Answers that say what the data says", ()),
        ("choice", "Answers with the right letter", ()),
        ("number", "Error and rank correlation of numbers", ("mean_absolute_error", "unreadable")),
    ):
        yield MetricSpec(name=name, summary=summary, metric=f"{_BUILTIN}.metrics:{name}", errors=errors)


@hookimpl
def cosmos_doctor_checks() -> Iterable[DoctorSpec]:
    """Checks of the machine and of what training runs on it."""
    for name, summary in (
        ("machine", "torch, GPUs, memory, compilation"),
        ("attention", "Attention kernels beside the formula"),
        ("codecs", "Video codecs, written and read"),
        ("disk", "Speed of checkpoints"),
        ("collectives", "Collectives between GPUs"),
        ("network", "The Hub and tokens"),
    ):
        yield DoctorSpec(name=name, summary=summary, checks=f"cosmos_core.doctor.{name}:checks")


@hookimpl
def cosmos_identify_checkpoint(path: Path) -> str | None:
    """'dcp' for what runs write, 'hf' for any folder with safetensors."""
    if any((path / part).is_file() for part in (".metadata", "model/.metadata")):
        return "dcp"
    return "hf" if any(path.glob("*.safetensors")) else None


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """Workspaces of cuBLAS that are not fixed, and trackers whose packages or accounts are missing."""
    from importlib.util import find_spec

    from cosmos_core.builtin.config import Tensorboard, Wandb

    workspaces = lookup("CUBLAS_WORKSPACE_CONFIG")
    if plan.config.trainer.deterministic and workspaces is not None and not has_cublas_workspaces():
        message = f"needs fixed workspaces of cuBLAS, but CUBLAS_WORKSPACE_CONFIG is {workspaces!r}"
        yield Problem(message=message, key="trainer.deterministic", hint="unset the variable, or set it to :4096:8")
    account = plan.config.trackers.get("wandb", Wandb())
    mode = plan.config.job.wandb_mode if account.enabled else "disabled"
    if mode != "disabled" and find_spec("wandb") is None:
        hint = "pip install 'cosmos-core[wandb]', or set job.wandb_mode=disabled"
        yield Problem(message=f"'{mode}' needs the package wandb", key="job.wandb_mode", hint=hint)
    elif mode == "online" and not is_set("WANDB_API_KEY") and not _netrc_knows_wandb():
        hint = "export WANDB_API_KEY, run `wandb login`, or set job.wandb_mode=offline"
        yield Problem(message="'online' needs a W&B account", key="job.wandb_mode", hint=hint)
    board = plan.config.trackers.get("tensorboard")
    if isinstance(board, Tensorboard) and board.enabled and find_spec("tensorboard") is None:
        hint = "pip install 'cosmos-core[tensorboard]', or set trackers.tensorboard.enabled=false"
        yield Problem(message="needs the package tensorboard", key="trackers.tensorboard", hint=hint)


def _netrc_knows_wandb() -> bool:
    from netrc import NetrcParseError, netrc

    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


@hookimpl
def cosmos_model_families() -> Iterable[ModelFamilySpec]:
    """A toy family that trains on a CPU in seconds."""
    yield ModelFamilySpec(
        name="tiny",
        summary="Toy regression for tests and tutorials",
        config=f"{_BUILTIN}.tiny.config:TinyModel",
        family=f"{_BUILTIN}.tiny.family:TinyFamily",
        accepts=("tiny",),
    )


@hookimpl
def cosmos_datasets() -> Iterable[DatasetSpec]:
    """The toy family's data."""
    yield DatasetSpec(
        name="tiny",
        summary="Points of a smooth function",
        config=f"{_BUILTIN}.tiny.config:TinyData",
        source=f"{_BUILTIN}.tiny.source:TinySource",
        yields="tiny",
    )
