"""How many cores this process may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cores"]

CGROUPS = Path("/sys/fs/cgroup")


def cores(groups: Path = CGROUPS) -> int:
    """Those of its affinity, or of its control group's quota if that is less, as containers have one; at least one."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = _quota(groups)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(groups: Path) -> float | None:
    """Cores that control groups of version 2 or 1 allow; None without a limit, and where no file tells."""
    for files in ((groups / "cpu.max",), (groups / "cpu/cpu.cfs_quota_us", groups / "cpu/cpu.cfs_period_us")):
        try:
            microseconds, period = " ".join(file.read_text(encoding="ascii") for file in files).split()
            return int(microseconds) / int(period) if int(microseconds) > 0 else None
        except (OSError, ValueError, ZeroDivisionError):  # "max" is no number.
            continue
    return None
