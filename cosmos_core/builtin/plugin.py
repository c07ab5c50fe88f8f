"""Core's contributions, through the same hooks as every plugin's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.config.env import is_set
from cosmos_core.errors import Problem
from cosmos_core.plugin.descriptors import CallbackSpec, CommandSpec, DatasetSpec, ModelFamilySpec, TrackerSpec
from cosmos_core.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from cosmos_core.config.model import AdaptedModelConfig
    from cosmos_core.plan.plan import RunPlan

__all__ = ["COSMOS_API"]

COSMOS_API = 1

_COMMANDS = "cosmos_core.cli.commands"
_BUILTIN = "cosmos_core.builtin"


@hookimpl
def cosmos_commands() -> Iterable[CommandSpec]:
    """The commands of `cosmos` itself."""
    yield CommandSpec(path=("run",), summary="Run a recipe, or resume it", command=f"{_COMMANDS}.run:run")
    yield CommandSpec(path=("recipes", "list"), summary="Installed recipes", command=f"{_COMMANDS}.recipes:list_all")
    yield CommandSpec(
        path=("recipes", "show"), summary="A recipe after all layers", command=f"{_COMMANDS}.recipes:show"
    )
    yield CommandSpec(
        path=("plugins", "list"),
        summary="Installed plugins and their state",
        command=f"{_COMMANDS}.plugins:list_plugins",
    )
    yield CommandSpec(path=("recipes", "copy"), summary="Copy a recipe to a file", command=f"{_COMMANDS}.recipes:copy")
    yield CommandSpec(path=("recipes", "check"), summary="Check recipe files", command=f"{_COMMANDS}.recipes:check")
    yield CommandSpec(
        path=("plugins", "check"), summary="Load everything a plugin refers to", command=f"{_COMMANDS}.plugins:check"
    )
    yield CommandSpec(
        path=("plugins", "hooks"), summary="The hooks a plugin may implement", command=f"{_COMMANDS}.plugins:hooks"
    )
    yield CommandSpec(path=("plugins", "show"), summary="What one plugin provides", command=f"{_COMMANDS}.plugins:show")
    yield CommandSpec(path=("plugins", "new"), summary="Write a plugin package", command=f"{_COMMANDS}.scaffold:new")
    yield CommandSpec(path=("config", "explain"), summary="Explain one key", command=f"{_COMMANDS}.config:explain")
    yield CommandSpec(
        path=("config", "schema"), summary="JSON Schema of a recipe", command=f"{_COMMANDS}.config:schema"
    )
    yield CommandSpec(
        path=("config", "reference"), summary="Every key as Markdown", command=f"{_COMMANDS}.config:reference"
    )
    yield CommandSpec(
        path=("checkpoints", "list"), summary="Published checkpoints", command=f"{_COMMANDS}.checkpoints:list_all"
    )
    yield CommandSpec(path=("checkpoints", "fetch"), summary="Download one", command=f"{_COMMANDS}.checkpoints:fetch")
    yield CommandSpec(
        path=("convert",), summary="Convert a published checkpoint to a base", command=f"{_COMMANDS}.convert:convert"
    )
    yield CommandSpec(
        path=("export",), summary="Export a checkpoint for other programs", command=f"{_COMMANDS}.export:export"
    )
    yield CommandSpec(path=("eval",), summary="Validation metrics of a run", command=f"{_COMMANDS}.eval:evaluate")
    yield CommandSpec(path=("doctor",), summary="Check this machine", command=f"{_COMMANDS}.doctor:doctor")
    yield CommandSpec(path=("completion",), summary="Shell completion", command=f"{_COMMANDS}.completion:completion")
    yield CommandSpec(path=("data", "prepare"), summary="Write a dataset to disk", command=f"{_COMMANDS}.data:prepare")


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
def cosmos_identify_checkpoint(path: Path) -> str | None:
    """'dcp' for what runs write, 'hf' for any folder with safetensors."""
    if any((path / part).is_file() for part in (".metadata", "model/.metadata")):
        return "dcp"
    return "hf" if any(path.glob("*.safetensors")) else None


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """Adapter flags that disagree; trackers whose packages or accounts are missing."""
    from importlib.util import find_spec

    from cosmos_core.builtin.config import Tensorboard, Wandb
    from cosmos_core.config.model import AdaptedModelConfig

    if isinstance(plan.config.model, AdaptedModelConfig):
        yield from _adapters(plan.config.model, plan.config.optimizer.keys_to_select)
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


def _adapters(model: AdaptedModelConfig, keys: Iterable[str]) -> Iterable[Problem]:
    trained = any("lora_" in key for key in keys)
    if model.lora_enabled and not trained:
        yield Problem(
            message="selects no adapter, but model.lora_enabled is true",
            key="optimizer.keys_to_select",
            hint='set it to ["lora_"]',
        )
    if trained and not model.lora_enabled:
        yield Problem(
            message="selects adapters, but model.lora_enabled is false",
            key="optimizer.keys_to_select",
            hint="set model.lora_enabled=true",
        )
    if model.lora_enabled and model.ema.enabled:
        yield Problem(
            message="keeps averages of adapters, which nothing reads", key="model.ema.enabled", hint="set it to false"
        )


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
