"""Finds the checkpoint a run starts from, by folder names alone."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isdir, realpath
from pathlib import Path
from shlex import join

from attrs import evolve

from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import text_fault
from cosmos_core.plan.manifest import MANIFEST, damage
from cosmos_core.plan.paths import RunPaths, step_of
from cosmos_core.plan.plan import WeightSource

__all__ = ["complete_ones", "damaged", "doubts", "find_checkpoint", "gone", "latest_complete", "starting_weights"]

NUM_NAMED = 4
"""Damaged files that are named."""
ADAPTER_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""Of an export of adapters alone, for diffusers and for peft."""


def _has(folder: Path, component: str) -> bool:
    return (folder / component / ".metadata").is_file()


def _complete(folder: Path) -> bool:
    """Whether a checkpoint was written to its end; it may have been damaged since."""
    if step_of(folder) is None:
        return False
    if (folder / MANIFEST).is_file() or (_has(folder, "model") and _has(folder, "trainer")):
        return True
    # It was named when it was whole, so it is damaged; passing over it would lose its steps in silence.
    return isdir(folder) and _named(folder.parent) == folder


def _named(checkpoints: Path) -> Path | None:
    """What `latest_checkpoint.txt` names; None when that file is damaged or not there."""
    try:
        named = checkpoints / (checkpoints / "latest_checkpoint.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return named if named.parent == checkpoints else None


def latest_complete(checkpoints: Path) -> Path | None:
    """The checkpoint `latest_checkpoint.txt` names; the newest complete one when that file is damaged or behind."""
    named = _named(checkpoints)
    if named is not None and _complete(named):
        return named
    if not isdir(checkpoints):
        return None
    complete = complete_ones(checkpoints)
    return complete[-1] if complete else None


def complete_ones(checkpoints: Path) -> list[Path]:
    """Every complete checkpoint in a folder, oldest first."""
    return sorted(folder for folder in checkpoints.glob("iter_*") if _complete(folder))


def find_checkpoint(config: RunConfig, paths: RunPaths) -> WeightSource:
    """The run's own latest checkpoint, else `checkpoint.load_path`, else fresh weights. Raises UserError.

    Of a damaged checkpoint the newest undamaged one before it is taken when `checkpoint.fallback` is set.
    """
    own = latest_complete(paths.checkpoints)
    load_path = config.checkpoint.load_path
    if load_path and (fault := text_fault(load_path)):
        problem = Problem(message=f"{fault}: {load_path!r}", key="checkpoint.load_path", hint="rename the folder")
        raise UserError("the checkpoint's path cannot be recorded; nothing was started", [problem])
    if own is not None:
        note = (
            f"(checkpoint.load_path {load_path} is not used: the run's own checkpoint has priority)"
            if load_path
            else ""
        )
        return _undamaged(WeightSource(kind="resume", path=own, note=note), fallback=config.checkpoint.fallback)
    return starting_weights(config)


def _undamaged(source: WeightSource, *, fallback: bool) -> WeightSource:
    """`source`, or the newest checkpoint before it that is not damaged. Raises UserError for damage otherwise."""
    newest = source.path
    if newest is None:
        return source
    doubtful = doubts(newest) if source.kind == "resume" else damage(newest)
    if not doubtful:
        return source
    earlier = [path for path in complete_ones(newest.parent) if path.name < newest.name and not doubts(path)]
    if fallback and earlier:
        note = f"{source.note} ({newest.name} is damaged: {doubtful[0]})".lstrip()
        return evolve(source, path=earlier[-1], note=note)
    wrong = damage(newest) or _lacking(newest)
    if not wrong:
        return source
    hint = f"checkpoint.fallback=true resumes from {earlier[-1].name}" if earlier else "no earlier checkpoint is whole"
    raise damaged(newest, wrong, "nothing was started", hint)


def doubts(checkpoint: Path) -> list[str]:
    """As `damage`, also of a part that nothing resumes without, and whether the manifest was lost.

    Only checkpoints from before all that have a manifest never had one.
    """
    if wrong := damage(checkpoint) or _lacking(checkpoint):
        return wrong
    lost = not (checkpoint / MANIFEST).is_file() and any(
        (path / MANIFEST).is_file() for path in complete_ones(checkpoint.parent) if path.name < checkpoint.name
    )
    return [f"{MANIFEST} is missing, which earlier ones have"] if lost else []


def _lacking(checkpoint: Path) -> list[str]:
    """The parts that a checkpoint without a manifest lacks; a manifest tells by itself."""
    if (checkpoint / MANIFEST).is_file():
        return []
    return [f"{part}/.metadata is missing" for part in ("model", "trainer") if not _has(checkpoint, part)]


def damaged(checkpoint: Path, wrong: Sequence[str], undone: str, hint: str) -> UserError:
    """For a checkpoint whose files are not those that were written."""
    more = [f"and {len(wrong) - NUM_NAMED} more files"] if len(wrong) > NUM_NAMED else []
    lines = (*wrong[:NUM_NAMED], *more)
    problems = [Problem(message=f"is damaged: {line}", file=str(checkpoint), hint=hint) for line in lines]
    return UserError(f"the checkpoint {checkpoint.name} is damaged; {undone}", problems)


def gone(checkpoint: Path, undone: str) -> UserError:
    """For a checkpoint whose folder vanished under the reader, where `Hold` has no effect or people removed it."""
    hint = "its run goes on and keeps few: take the newest again, or raise checkpoint.keep_last"
    problem = Problem(message="was removed while it was read", file=str(checkpoint), hint=hint)
    return UserError(f"the checkpoint is gone; {undone}", [problem])


def starting_weights(config: RunConfig) -> WeightSource:
    """What a run of this configuration starts from in a new run directory. Raises UserError."""
    load_path = config.checkpoint.load_path
    if load_path:
        _refuse_published(Path(load_path), config.model.published_key)
        return _from_path(Path(load_path), config.model.published_base, fallback=config.checkpoint.fallback)
    if config.model.init == "random":
        return WeightSource(kind="scratch")
    if config.model.brings_weights:
        return WeightSource(kind="pretrained", note="(the model's own)")
    base = config.model.published_base
    hint = f'{_made_by(base, Path("DIR"))}set checkpoint.load_path=DIR, or model.init="random" for fresh weights'
    message = "is not set, and model.init is 'pretrained', so the run has no weights to start from"
    problem = Problem(message=message, key="checkpoint.load_path", hint=hint)
    raise UserError("the run has no weights to start from; nothing was started", [problem])


def _made_by(base: str, folder: Path) -> str:
    """The command that makes a base in `folder`; "" where no published checkpoint is known."""
    return f"`{join(('cosmos', 'convert', base, '-o', str(folder)))}` makes one; " if base else ""


def _from_path(named: Path, base: str, *, fallback: bool) -> WeightSource:
    # Where a link leads: the folder's own name holds the step, and the record of its run is two folders up.
    path = Path(realpath(named))
    if not isdir(path):
        problem = Problem(
            message=f"no such folder: {named}",
            key="checkpoint.load_path",
            hint=f"{_made_by(base, named)}it may be a run directory, its checkpoints/, an iter_<N>/ or a base",
        )
        raise UserError("the checkpoint to load does not exist; nothing was started", [problem])
    for checkpoints in (path / "checkpoints", path):
        latest = latest_complete(checkpoints) if checkpoints.is_dir() else None
        if latest is not None:
            return _undamaged(WeightSource(kind="resume", path=latest), fallback=fallback)
    if _has(path, "model"):
        return _undamaged(WeightSource(kind="resume" if _has(path, "trainer") else "warm", path=path), fallback=False)
    if (path / ".metadata").is_file() and path.name == "model":
        return _undamaged(WeightSource(kind="warm", path=path.parent), fallback=False)
    raise _unrecognised(path)


def _refuse_published(folder: Path, key: str) -> None:
    """Raises UserError for weights as they are published or exported. key: that names such a folder, if any."""
    if not any(next(place.glob("*.safetensors"), None) for place in (folder, folder / "transformer")):
        return
    hint = f"{key}={folder}" if key else f"`cosmos convert {folder} -o DIR` makes a base, then checkpoint.load_path=DIR"
    message = f"{folder} holds published or exported weights (*.safetensors), not a checkpoint"
    if any((folder / name).is_file() for name in ADAPTER_FILES):
        message = f"{folder} holds adapters without the weights below them"
        hint = "export the run without --adapter, which folds them into their base, and convert what it wrote"
    problem = Problem(message=message, key="checkpoint.load_path", hint=hint)
    raise UserError("the checkpoint to load is not recognised; nothing was started", [problem])


def _unrecognised(path: Path) -> UserError:
    looked = "looked for checkpoints/iter_<N>/, iter_<N>/ and model/.metadata"
    problem = Problem(message=f"{path} holds no checkpoint: {looked}", key="checkpoint.load_path")
    return UserError("the checkpoint to load is not recognised; nothing was started", [problem])
