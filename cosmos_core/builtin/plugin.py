"""What core contributes through the hooks that everyone uses."""

from __future__ import annotations

from collections.abc import Iterable

from cosmos_core.plugin.descriptors import CallbackSpec, CommandSpec, DatasetSpec, ModelFamilySpec, TrackerSpec
from cosmos_core.plugin.hookspecs import hookimpl

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
    yield CommandSpec(path=("data", "prepare"), summary="Write a dataset to disk", command=f"{_COMMANDS}.data:prepare")


@hookimpl
def cosmos_callbacks() -> Iterable[CallbackSpec]:
    """Gradient clipping, and the loss curve that every run draws."""
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


@hookimpl
def cosmos_trackers() -> Iterable[TrackerSpec]:
    """The console and the metrics file, both always on."""
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
