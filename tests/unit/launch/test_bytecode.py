"""Whether torch's bytecode is kept is found without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import slow_package
from cosmos_core.launch.bytecode import keeps_bytecode
print(keeps_bytecode("slow_package"), keeps_bytecode("there_is_none"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(("flags", "expected"), [((), "True"), (("-B",), "False")])
def test_bytecode_is_kept_unless_python_must_not_write_it(
    tmp_path: Path, flags: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "slow_package.py").write_text("")
    command = [sys.executable, *flags, "-c", PROGRAM.format(folder=str(tmp_path))]
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "True", "False"]
