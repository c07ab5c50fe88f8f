"""`cosmos doctor`: tests whether this machine can run cosmos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from attrs import asdict

from cosmos_core.cli.options import json_option
from cosmos_core.cli.output import print_json
from cosmos_core.config.env import output_root
from cosmos_core.plugin.descriptors import DoctorSpec
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.doctor import Outcome

__all__ = ["doctor"]


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Leave out what takes more than seconds: collectives, compilation.")
@json_option
@click.option("--offline", is_flag=True, help="Do not try to reach the Hub.")
@click.pass_obj
def doctor(plugins: PluginManager, quick: bool, offline: bool, as_json: bool) -> int:
    """Test this machine: attention kernels, collectives between GPUs, video codecs, disk, memory, network, plugins.

    Each test compares a result with what is known to be right. Exit code 1 when something that runs need is broken.

    \b
    Examples:
      cosmos doctor
      cosmos doctor --quick
      cosmos doctor --json --offline > doctor.json
    """
    from cosmos_core.doctor import DoctorOptions, run_checks

    def announce(group: str, name: str) -> None:
        click.echo(f"{group}: {name} ... ", nl=False, err=as_json)

    options = DoctorOptions(quick=quick, offline=offline, output_root=output_root())
    outcomes = list(_plugins(plugins))
    for outcome in outcomes:
        announce(outcome.group, outcome.name)
        _show(outcome, as_json)
    for outcome in run_checks(plugins.registry.all(DoctorSpec), options, announce):
        _show(outcome, as_json)
        outcomes.append(outcome)
    broken = [f"{outcome.group}: {outcome.name}" for outcome in outcomes if outcome.result.status == "broken"]
    notes = sum(outcome.result.status == "note" for outcome in outcomes)
    verdict = f"broken: {'; '.join(broken)}" if broken else f"nothing broken, {notes} note{'s' * (notes != 1)}"
    if as_json:
        checks = [
            {"group": outcome.group, "name": outcome.name, **asdict(outcome.result), "seconds": outcome.seconds}
            for outcome in outcomes
        ]
        print_json({"verdict": verdict, "ok": not broken, "checks": checks})
    else:
        click.echo(verdict)
    return 1 if broken else 0


def _plugins(plugins: PluginManager) -> Iterator[Outcome]:
    from cosmos_core.doctor import Outcome, Result

    for plugin in plugins.statuses:
        state = plugin.candidate.version if plugin.state == "ok" else plugin.state
        yield Outcome(
            group="plugin",
            name=plugin.candidate.name,
            result=Result(
                status="broken" if plugin.state == "broken" else "ok" if plugin.state == "ok" else "note",
                message=" ".join(filter(None, [state, plugin.reason or plugin.warning])),
                hint=f"repair or uninstall {plugin.candidate.distribution}" if plugin.state == "broken" else "",
            ),
            seconds=0.0,
        )


def _show(outcome: Outcome, err: bool) -> None:
    result = outcome.result
    status = result.status.upper() if result.status == "broken" else result.status
    seconds = f" ({outcome.seconds:.1f} s)" if outcome.seconds >= 0.05 else ""
    click.echo(f"{status}: {result.message}{seconds}", err=err)
    if result.hint:
        click.echo(f"    -> {result.hint}", err=err)
