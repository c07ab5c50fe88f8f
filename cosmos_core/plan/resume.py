"""Where a run's weights come from. Reads folder names only."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.layout import RunLayout, step_of
from cosmos_core.plan.plan import Resume

__all__ = ["find_resume", "latest_complete"]


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
    found = sorted(folder for folder in checkpoints.glob("iter_*") if _complete(folder))
    return found[-1] if found else None


def find_resume(config: RunConfig, layout: RunLayout) -> Resume:
    """The run's own latest checkpoint, else `checkpoint.load_path`, else fresh weights. Raises UserError."""
    own = latest_complete(layout.checkpoints)
    load_path = config.checkpoint.load_path
    if own is not None:
        note = f"(checkpoint.load_path {load_path} is not used: the run's own checkpoint wins)" if load_path else ""
        return Resume(kind="resume", path=own, note=note)
    if load_path:
        return _from_path(Path(load_path))
    if config.model.init == "random":
        return Resume(kind="scratch")
    if config.model.brings_weights:
        return Resume(kind="pretrained", note="(the model's own)")
    hint = 'set checkpoint.load_path=DIR, or model.init="random" to train from fresh weights on purpose'
    problem = Problem(message="is not set, and model.init is 'pretrained'", key="checkpoint.load_path", hint=hint)
    raise UserError("the run has no weights to start from; nothing was started", [problem])


def _from_path(named: Path) -> Resume:
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
            return Resume(kind="resume", path=latest)
    if _has(path, "model"):
        return Resume(kind="resume" if _has(path, "trainer") else "warm", path=path)
    if (path / ".metadata").is_file():
        return Resume(kind="warm", path=path.parent) if path.name == "model" else _unrecognised(path)
    return _unrecognised(path)


def _unrecognised(path: Path) -> Resume:
    looked = "looked for checkpoints/iter_<N>/, iter_<N>/ and model/.metadata"
    problem = Problem(message=f"{path} holds no checkpoint: {looked}", key="checkpoint.load_path")
    raise UserError("the checkpoint to load is not recognised; nothing was started", [problem])
