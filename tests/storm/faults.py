"""What happens to a run: each fault takes the launcher and the random numbers of the trial."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil

from cosmos_core.plan.manifest import NOTES

__all__ = ["DISK", "FAULTS", "damage_newest"]

Fault = Callable[["subprocess.Popen[str]", Random], None]
DISK = 1_500_000
"""Bytes that a file may have under the fault 'full disk'."""


def _ranks(launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes that train: the children of the agent; the launcher itself when there is no other."""
    top = psutil.Process(launcher.pid)
    found = []
    for agent in top.children():
        with suppress(psutil.Error):
            found += agent.children()
    return found or [top]


def _tree(launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    top = psutil.Process(launcher.pid)
    return [top, *top.children(recursive=True)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


def kill_a_rank(launcher: subprocess.Popen[str], random: Random) -> None:
    """SIGKILL to one rank."""
    _send([random.choice(_ranks(launcher))], signal.SIGKILL)


def kill_all_ranks(launcher: subprocess.Popen[str], random: Random) -> None:
    """SIGKILL to every rank at once."""
    _send(_ranks(launcher), signal.SIGKILL)


def kill_a_saver(launcher: subprocess.Popen[str], random: Random) -> None:
    """SIGKILL to a process that saves in the background, if there is one."""
    savers = [process for process in _tree(launcher) if "saving_process" in _command(process)]
    _send(savers[:1], signal.SIGKILL)


def kill_the_launcher(launcher: subprocess.Popen[str], random: Random) -> None:
    """SIGKILL to the launcher alone; its ranks must follow."""
    launcher.kill()


def stop_a_rank(launcher: subprocess.Popen[str], random: Random) -> None:
    """SIGSTOP to one rank for a while, as a machine that swaps; sometimes the launcher is killed meanwhile."""
    rank = random.choice(_ranks(launcher))
    _send([rank], signal.SIGSTOP)
    time.sleep(random.uniform(0.1, 1.0))
    if random.random() < 0.5:
        launcher.kill()
    else:
        _send([rank], signal.SIGCONT)
        _send(_tree(launcher), signal.SIGTERM)


def signal_the_group(launcher: subprocess.Popen[str], random: Random) -> None:
    """A stop signal to the process group, up to three times."""
    number = random.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
    for _ in range(random.randint(1, 3)):
        try:
            os.killpg(launcher.pid, number)
        except ProcessLookupError:
            return
        time.sleep(random.uniform(0, 0.1))


def signal_every_process(launcher: subprocess.Popen[str], random: Random) -> None:
    """A stop signal to every process of the tree, as Slurm does."""
    _send(_tree(launcher), random.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]))


FAULTS: dict[str, Fault] = {
    "kill a rank": kill_a_rank,
    "kill all ranks": kill_all_ranks,
    "kill a saver": kill_a_saver,
    "kill the launcher": kill_the_launcher,
    "stop a rank": stop_a_rank,
    "signal the group": signal_the_group,
    "signal every process": signal_every_process,
}
"""Besides these a trial may have a full disk from its start, or begin with a damaged newest checkpoint."""


def damage_newest(checkpoints: Path, random: Random) -> bool:
    """Change, cut or remove one file of the newest checkpoint, if there is an older one to go back to."""
    found = sorted(checkpoints.glob("iter_*"))
    if len(found) < 2:
        return False
    path = random.choice([path for path in sorted(found[-1].rglob("*")) if path.is_file() and path.name not in NOTES])
    content = path.read_bytes()
    how = random.choice(["bit", "cut", "gone"])
    if how == "gone":
        path.unlink()
    elif how == "cut" or not content:
        path.write_bytes(content[: len(content) // 2])
    else:
        place = random.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :])
    return True
