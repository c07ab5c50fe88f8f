"""`cosmos runs`: the runs of an output root, one of them, how some differ, and removing them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosmos_core.cli.complete import run_directories
from cosmos_core.cli.options import json_option, root_option
from cosmos_core.cli.output import print_facts, print_json, print_table
from cosmos_core.errors import Problem, UserError

if TYPE_CHECKING:
    from cosmos_core.report.run_status import RunStatus

__all__ = ["compare", "list_all", "remove", "runs", "show"]

STILL_NEEDED = "remove that run too, or go on there with checkpoint.include_frozen=true, which saves all weights"


@click.group("runs")
def runs() -> None:
    """Show the runs of an output root, compare them, and remove some.

    \b
    Examples:
      cosmos runs list
      cosmos runs show vision_sft_demo
      cosmos runs compare first second
    """


@click.command("list")
@click.argument("root", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def list_all(root: Path | None, as_json: bool) -> None:
    """One row for each run below ROOT, the newest first; default: the output root of `cosmos run`.

    The state is running, done, stopped (it can be resumed), or failed with the reason.

    \b
    Examples:
      cosmos runs list
      cosmos runs list outputs/train/cosmos3 --json
    """
    from cosmos_core.plan.runs import find_runs

    folder = _root(root)
    statuses = sorted((_status(path) for path in find_runs(folder)), key=lambda status: -status.changed)
    if as_json:
        print_json([_facts(status) for status in statuses])
    elif not statuses:
        click.echo(f"no runs below {folder}")
    else:
        columns = ["run", "state", "step", "loss", "val_loss", "age", "disk", "why"]
        print_table(columns, [_row(status, folder) for status in statuses])


@click.command("show")
@click.argument("run", shell_complete=run_directories)
@root_option
@json_option
def show(run: str, root: Path | None, as_json: bool) -> None:
    """Print what is known of RUN, a run directory or a run's name: state, command, weights, data, checkpoints.

    \b
    Examples:
      cosmos runs show vision_sft_demo
      cosmos runs show outputs/train/cosmos3/sft/vision_sft_demo --json
    """
    from attrs import asdict

    from cosmos_core.report.record import read_record

    status = _status(_find(run, root))
    record = read_record(status.run_dir)
    facts = {
        **_facts(status),
        **record.facts,
        "last": record.last_metrics,
        "rollbacks": [asdict(rollback) for rollback in record.rollbacks],
        "checkpoints": {checkpoint.name: checkpoint.size for checkpoint in record.checkpoints},
    }
    if as_json:
        print_json(facts)
        return
    from cosmos_core.console.layout import size_text

    shown = {
        **facts,
        "loss": None,
        "val_loss": None,
        "step": _step(status),
        "total": None,
        "size": size_text(status.size),
        "changed": f"{_age(status.changed)} ago",
        "last": ", ".join(f"{name} {_number(value)}" for name, value in record.last_metrics.items()),
        "rollbacks": "; ".join(rollback.text for rollback in record.rollbacks),
        "checkpoints": ", ".join(f"{item.name} ({size_text(item.size)})" for item in record.checkpoints),
    }
    print_facts({name: value for name, value in shown.items() if value not in ("", None)}, as_json=False)


@click.command("compare")
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=run_directories)
@root_option
@json_option
def compare(names: tuple[str, ...], root: Path | None, as_json: bool) -> None:
    """Print the settings that differ between runs, and the last metrics of each.

    \b
    Examples:
      cosmos runs compare first second
      cosmos runs compare outputs/train/cosmos3/sft/* --json
    """
    from cosmos_core.report.record import read_record
    from cosmos_core.report.run_status import names_of, recorded_config
    from cosmos_core.report.settings import differing_settings

    folders = [_find(name, root) for name in names]
    differences = differing_settings([recorded_config(folder) for folder in folders])
    statuses, records = [_status(folder) for folder in folders], [read_record(folder) for folder in folders]
    metrics = dict.fromkeys(name for record in records for name in record.last_metrics)
    values = {name: [record.last_metrics.get(name) for record in records] for name in metrics}
    states = [status.state for status in statuses]
    if as_json:
        settings = {difference.key: difference.values for difference in differences}
        print_json({"runs": list(map(str, folders)), "state": states, "settings": settings, "last": values})
        return
    rows = [["state", *states]]
    rows += [[difference.key, *difference.texts] for difference in differences]
    rows += [[name, *map(_number, row)] for name, row in values.items()]
    print_table(["", *names_of(folders)], rows)


@click.command("remove")
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=run_directories)
@click.option("--yes", is_flag=True, help="Do not ask.")
@root_option
def remove(names: tuple[str, ...], yes: bool, root: Path | None) -> None:
    """Delete run directories with all of their checkpoints. Asks first; a run that is running stays.

    So does one with a checkpoint that another run leaves frozen weights to.

    \b
    Examples:
      cosmos runs remove first second
      cosmos runs remove outputs/train/cosmos3/sft/old --yes
    """
    from cosmos_core.console.layout import size_text
    from cosmos_core.launch.run_lock import check_free, run_lock
    from cosmos_core.plan.paths import RunPaths

    folders = list(dict.fromkeys(_find(name, root).resolve() for name in names))
    for folder in folders:
        check_free(RunPaths(folder))
    _check_bases(folders)
    statuses = [_status(folder) for folder in folders]
    for status in statuses:
        click.echo(f"{status.run_dir}: {status.state} at step {_step(status)}, {size_text(status.size)}")
    if not yes:
        click.confirm("Delete this for good?" if len(folders) == 1 else "Delete these for good?", abort=True)
    for folder in folders:
        with run_lock(RunPaths(folder)):
            shutil.rmtree(folder)
    click.echo(f"removed {len(folders)}, {size_text(sum(status.size for status in statuses))} freed")


def _check_bases(folders: list[Path]) -> None:
    """Raises UserError when a checkpoint in one of them is the base of a run that stays."""
    from cosmos_core.plan.base_users import base_users

    problems = [
        Problem(message=f"is the base of {user}", file=str(checkpoint), hint=STILL_NEEDED)
        for folder in folders
        for checkpoint in sorted(folder.glob("*/iter_*"))
        for user in base_users(checkpoint)
        if user not in folders
    ]
    if problems:
        raise UserError("other runs leave frozen weights to these; nothing was removed", problems)


def _root(root: Path | None) -> Path:
    from cosmos_core.config.env import output_root

    return root if root is not None else output_root()


def _find(name: str, root: Path | None) -> Path:
    from cosmos_core.plan.runs import find_run

    return find_run(name, _root(root))


def _status(folder: Path) -> RunStatus:
    from cosmos_core.launch.run_lock import is_locked
    from cosmos_core.report.run_status import read_status

    return read_status(folder, is_running=is_locked)


def _facts(status: RunStatus) -> dict[str, Any]:
    return {
        "run": str(status.run_dir),
        "state": status.state,
        "why": status.why,
        "step": status.step,
        "total": status.total,
        "loss": status.loss,
        "val_loss": status.val_loss,
        "changed": status.changed,
        "size": status.size,
    }


def _row(status: RunStatus, root: Path) -> list[str]:
    from cosmos_core.console.layout import size_text

    name = str(status.run_dir.relative_to(root)) if status.run_dir != root else str(root)
    losses = [_number(status.loss), _number(status.val_loss)]
    why = status.why.splitlines()[0] if status.why else ""
    return [name, status.state, _step(status), *losses, _age(status.changed), size_text(status.size), why]


def _step(status: RunStatus) -> str:
    parts = [str(part) for part in (status.step or 0, status.total) if part is not None]
    return "/".join(parts)


def _number(value: float | None) -> str:
    from cosmos_core.report.metric_values import number_text

    return "" if value is None else number_text(value)


def _age(changed: float) -> str:
    """Since a time in seconds, in the largest unit that fits."""
    seconds = max(0.0, time.time() - changed)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return f"{int(seconds)} s"
