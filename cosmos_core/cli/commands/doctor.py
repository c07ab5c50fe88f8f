"""`cosmos doctor`: checks whether this machine can run cosmos."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cosmos_core.cli.output import json_option, print_json
from cosmos_core.config.env import output_root, secrets_present
from cosmos_core.plugin.manager import PluginManager

__all__ = ["doctor"]

GIB = 2**30
HUB = "https://huggingface.co"
SECONDS = 5


@click.command("doctor")
@json_option
@click.option("--offline", is_flag=True, help="Do not try to reach the Hub.")
@click.pass_obj
def doctor(plugins: PluginManager, as_json: bool, offline: bool) -> int:
    """Check Python, torch, devices, video codecs, disk, network and plugins; exit code 1 when something is broken.

    \b
    Examples:
      cosmos doctor
      cosmos doctor --json --offline
    """
    report: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    failed: list[str] = []
    checks: dict[str, Callable[[], Any]] = {
        "torch": _torch,
        "distributed": _distributed,
        "video": _video,
        "disk": _disk,
        "hub": (lambda: "not tried") if offline else _hub,
        "tokens": secrets_present,
        "plugins": lambda: _plugins(plugins),
    }
    for name, check in checks.items():
        try:
            report[name] = check()
        except Exception as error:
            failed.append(name)
            report[name] = f"failed: {type(error).__name__}: {error}"
    broken = [name for name, state in report["plugins"].items() if state.startswith("broken")]
    report["verdict"] = "; ".join(
        [*(f"{name} failed" for name in failed), *(f"plugin {name} broken" for name in broken)]
    )
    report["verdict"] = report["verdict"] or "nothing found wrong"
    print_json(report) if as_json else _print(report)
    return 1 if failed or broken else 0


def _torch() -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {"version": torch.__version__, "threads": torch.get_num_threads()}
    if not torch.cuda.is_available():
        return {**facts, "devices": "none (training runs on the CPU)"}
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    facts["devices"] = [f"{device.name}, {device.total_memory / GIB:.0f} GiB" for device in devices]
    facts["cudnn"] = torch.backends.cudnn.version()
    facts["bfloat16"] = torch.cuda.is_bf16_supported()
    return facts


def _distributed() -> dict[str, bool]:
    import torch.distributed as dist

    return {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()}


def _video() -> dict[str, Any]:
    import av

    codecs = ("h264", "hevc", "vp9", "av1")
    readable = [name for name in codecs if name in av.codecs_available]
    return {"pyav": av.__version__, "reads": readable, "writes h264": "libx264" in av.codecs_available}


def _disk() -> dict[str, str]:
    root = output_root()
    existing = next(path for path in (root, *root.resolve().parents) if path.exists())
    return {str(path): f"{shutil.disk_usage(path).free / GIB:.1f} GiB free" for path in (existing, Path.home())}


def _hub() -> str:
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(HUB, method="HEAD"), timeout=SECONDS) as answer:
            return f"reachable ({answer.status})"
    except HTTPError as error:
        return f"reachable ({error.code})"
    except (URLError, OSError) as error:
        return f"not reachable: {getattr(error, 'reason', error)}"


def _plugins(plugins: PluginManager) -> dict[str, str]:
    return {
        status.candidate.name: f"{status.state} {status.reason}".strip() or status.state for status in plugins.statuses
    }


def _print(report: dict[str, Any]) -> None:
    for name, value in report.items():
        if not isinstance(value, dict):
            click.echo(f"{name}: {value}")
            continue
        click.echo(f"{name}:")
        for key, inner in value.items():
            text = ", ".join(inner) if isinstance(inner, list) else inner
            click.echo(f"  {key}: {text}")
