"""How many accelerators this machine offers, counted without torch."""

from __future__ import annotations

import re
from pathlib import Path

from cosmos_core.config.env import visible_devices

__all__ = ["visible_gpus"]

_DEVICE = re.compile(r"nvidia\d+")


def visible_gpus() -> int:
    """NVIDIA GPUs this process may use: device files, narrowed by CUDA_VISIBLE_DEVICES."""
    present = sum(1 for path in Path("/dev").glob("nvidia*") if _DEVICE.fullmatch(path.name))
    visible = visible_devices()
    if visible is None:
        return present
    return min(present, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))
