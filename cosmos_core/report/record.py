"""What a run directory says about a run: launches, weights, data, checkpoints. Damaged files are left out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cosmos_core.names import counted
from cosmos_core.plan.disk_use import files_below
from cosmos_core.plan.paths import RunPaths, step_of
from cosmos_core.plan.record import content_of
from cosmos_core.report.metric_values import newest_metrics
from cosmos_core.report.metrics_file import last_metrics
from cosmos_core.report.run_status import recorded_config, standing_launch

__all__ = ["Launch", "Rollback", "RunRecord", "SavedCheckpoint", "read_record"]


@frozen
class SavedCheckpoint:
    """A folder below ``checkpoints/``. size: bytes. complete: whether it can be loaded."""

    name: str
    step: int
    size: int
    complete: bool


@frozen
class Rollback:
    """The run went back from a step that was not finite. left_out: samples without which it went on; file: theirs."""

    from_step: int
    to_step: int
    why: str
    left_out: int
    file: str

    @property
    def text(self) -> str:
        """In words."""
        place = f": {self.file}" if self.file else ""
        return (
            f"step {self.from_step} to {self.to_step} ({self.why}), without {counted(self.left_out, 'sample')}{place}"
        )


@frozen
class Launch:
    """One launch, from its ``launch_info.yaml``. startup: seconds by phase. left_out: samples by reason, by loader."""

    number: int
    command: str
    started: str
    processes: int | None
    startup: dict[str, float]
    left_out: dict[str, dict[str, int]]
    rollbacks: list[Rollback] = field(factory=list)


@frozen(kw_only=True)
class RunRecord:
    """facts: texts and numbers by name, for people. last_metrics: the newest. launches: oldest first."""

    facts: dict[str, Any]
    last_metrics: dict[str, float]
    checkpoints: list[SavedCheckpoint]
    launches: list[Launch] = field(factory=list)

    @property
    def rollbacks(self) -> list[Rollback]:
        """Of all launches, oldest first."""
        return [rollback for launch in self.launches for rollback in launch.rollbacks]


def read_record(run_dir: Path) -> RunRecord:
    """The record of a run, as far as it can be read."""
    paths = RunPaths(run_dir)
    metrics = last_metrics(paths.metrics)
    infos = {number: _yaml(paths.launch(number).launch_info) for number in paths.launch_numbers}
    standing = standing_launch(paths)
    newest = infos.get(standing, {}) if standing is not None else _yaml(paths.launch_info)
    return RunRecord(
        facts=_facts(newest, recorded_config(run_dir)),
        last_metrics=newest_metrics(metrics.last_step, metrics.last_validation),
        checkpoints=_checkpoints(paths),
        launches=[_launch(number, info) for number, info in infos.items()],
    )


def _facts(info: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    weights, sources = _table(info, "weights"), _table(info, "fetched")
    versions = _table(info, "distributions")
    origin = weights.get("origin")
    facts = {
        "recipe": info.get("args_cfg_path", ""),
        "overrides": " ".join(map(str, _list(info, "args_override"))),
        "task": _table(config, "job").get("task", ""),
        "weights": " ".join(str(part) for part in (weights.get("kind", ""), weights.get("path") or "") if part),
        "base": f"{origin}" if origin else _table(config, "checkpoint").get("load_path", ""),
        "training data": _data(config, "dataloader_train"),
        "validation data": _data(config, "dataloader_val") if _table(config, "trainer").get("run_validation") else "",
        "sources": ", ".join(f"{name}: {source}" for name, source in sources.items()),
        "processes": info.get("processes", ""),
        "started": info.get("started", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {
        name: fact if isinstance(fact, int) else str(fact) for name, fact in facts.items() if fact not in ("", None)
    }


def _data(config: Mapping[str, Any], section: str) -> str:
    """Type and place of the data; of a mixture those of each member, with its weight."""
    loader = _table(config, section)
    members = [member for member in _list(loader, "mixture") if isinstance(member, dict)]
    return "; ".join(map(_described, members or [_table(loader, "dataset")]))


def _described(dataset: Mapping[str, Any]) -> str:
    weight = dataset.get("weight")
    share = f"(weight {weight:g})" if isinstance(weight, int | float) else ""
    return " ".join(str(fact) for fact in (dataset.get("type"), dataset.get("path"), share) if fact)


def _launch(number: int, info: Mapping[str, Any]) -> Launch:
    startup = {name: value for name, value in _table(info, "startup_seconds").items() if isinstance(value, int | float)}
    left_out = {
        loader: {str(reason): count for reason, count in counts.items() if isinstance(count, int)}
        for loader, counts in _table(info, "left_out").items()
        if isinstance(counts, dict)
    }
    processes = info.get("processes")
    return Launch(
        number=number,
        command=str(info.get("cmd", "")),
        started=str(info.get("started", "")),
        processes=processes if isinstance(processes, int) else None,
        startup=startup,
        left_out=left_out,
        rollbacks=[rollback for facts in _table(info, "rollbacks").values() if (rollback := _rollback(number, facts))],
    )


def _rollback(launch: int, facts: Any) -> Rollback | None:
    """None for a damaged entry."""
    if not isinstance(facts, dict):
        return None
    begun, ended, samples = (facts.get(name) for name in ("from", "to", "samples"))
    if not isinstance(begun, int) or not isinstance(ended, int) or not isinstance(samples, int):
        return None
    file = facts.get("left_out")
    return Rollback(begun, ended, str(facts.get("why", "")), samples, f"launches/{launch}/{file}" if file else "")


def _checkpoints(paths: RunPaths) -> list[SavedCheckpoint]:
    checkpoints = []
    for folder in sorted(paths.checkpoints.glob("iter_*")):
        step = step_of(folder)
        if step is not None:
            complete = all((folder / part / ".metadata").is_file() for part in ("model", "trainer"))
            size = sum(facts.st_size for _, facts in files_below(folder, follow_links=True))
            if folder.is_dir():  # The run may have removed it since it was listed.
                checkpoints.append(SavedCheckpoint(folder.name, step, size, complete))
    return checkpoints


def _yaml(path: Path) -> dict[str, Any]:
    content = content_of(path)
    return content if isinstance(content, dict) else {}


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table of a file that may be damaged; {} when it is no table."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    value = values.get(name)
    return value if isinstance(value, list) else []
