"""Finds the checkpoint a run starts from, by folder names alone."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.paths import RunPaths, step_of
from cosmos_core.plan.plan import WeightSource

__all__ = ["find_checkpoint", "latest_complete", "starting_weights"]


def _has(folder: Path, component: str) -> bool:
    return (folder / component / ".metadata").is_file()


def _complete(folder: Path) -> bool:
    return step_of(folder) is not None and _has(folder, "model") and _has(folder, "trainer")


def latest_complete(checkpoints: Path) -> Path | None:
    """The checkpoint `latest_checkpoint.txt` names; the newest complete one when that file is damaged or behind."""
    try:
        named = checkpoints / (checkpoints / "latest_checkpoint.txt").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        named = checkpoints
    if named.parent == checkpoints and _complete(named):
        return named
    complete = sorted(folder for folder in checkpoints.glob("iter_*") if _complete(folder))
    return complete[-1] if complete else None


def find_checkpoint(config: RunConfig, paths: RunPaths) -> WeightSource:
    """The run's own latest checkpoint, else `checkpoint.load_path`, else fresh weights. Raises UserError."""
    own = latest_complete(paths.checkpoints)
    load_path = config.checkpoint.load_path
    if own is not None:
        note = (
            f"(checkpoint.load_path {load_path} is not used: the run's own checkpoint has priority)"
            if load_path
            else ""
        )
        return WeightSource(kind="resume", path=own, note=note)
    return starting_weights(config)


def starting_weights(config: RunConfig) -> WeightSource:
    """What a run of this configuration starts from in a new run directory. Raises UserError."""
    load_path = config.checkpoint.load_path
    if load_path:
        _refuse_published(Path(load_path), config.model.published_key)
        return _from_path(Path(load_path))
    if config.model.init == "random":
        return WeightSource(kind="scratch")
    if config.model.brings_weights:
        return WeightSource(kind="pretrained", note="(the model's own)")
    hint = 'set checkpoint.load_path=DIR, or model.init="random" to train from fresh weights'
    problem = Problem(message="is not set, and model.init is 'pretrained'", key="checkpoint.load_path", hint=hint)
    raise UserError("the run has no weights to start from; nothing was started", [problem])


def _from_path(named: Path) -> WeightSource:
    # Where a link leads: the folder's own name holds the step, and the record of its run is two folders up.
    path = named.resolve()
    if not path.is_dir():
        problem = Problem(
            message=f"no such folder: {named}",
            key="checkpoint.load_path",
            hint="name a run directory, its checkpoints/, an iter_<N>/ or a converted base checkpoint",
        )
        raise UserError("the checkpoint to load does not exist; nothing was started", [problem])
    for checkpoints in (path / "checkpoints", path):
        latest = latest_complete(checkpoints) if checkpoints.is_dir() else None
        if latest is not None:
            return WeightSource(kind="resume", path=latest)
    if _has(path, "model"):
        return WeightSource(kind="resume" if _has(path, "trainer") else "warm", path=path)
    if (path / ".metadata").is_file():
        return WeightSource(kind="warm", path=path.parent) if path.name == "model" else _unrecognised(path)
    return _unrecognised(path)


def _refuse_published(folder: Path, key: str) -> None:
    """Raises UserError for weights as they are published or exported. key: that names such a folder, if any."""
    if not any(next(place.glob("*.safetensors"), None) for place in (folder, folder / "transformer")):
        return
    hint = f"{key}={folder}" if key else f"`cosmos convert {folder} -o DIR` makes a base, then checkpoint.load_path=DIR"
    message = f"{folder} holds published or exported weights (*.safetensors), not a checkpoint"
    problem = Problem(message=message, key="checkpoint.load_path", hint=hint)
    raise UserError("the checkpoint to load is not recognised; nothing was started", [problem])


def _unrecognised(path: Path) -> WeightSource:
    looked = "looked for checkpoints/iter_<N>/, iter_<N>/ and model/.metadata"
    problem = Problem(message=f"{path} holds no checkpoint: {looked}", key="checkpoint.load_path")
    raise UserError("the checkpoint to load is not recognised; nothing was started", [problem])
