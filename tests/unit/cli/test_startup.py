"""What every call of `cosmos` must not import; `make bench-startup` measures the time."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = {
    "torch",
    "numpy",
    "rich",
    "cattrs",
    "tomlkit",
    "importlib.metadata",
    "email",
    "asyncio",
    "huggingface_hub",
    "yaml",
}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["plugins", "list"],
        ["plugins", "show", "vfm"],
        ["recipes", "list"],
        ["checkpoints", "list"],
        ["run", "-h"],
    ],
    ids=" ".join,
)
def test_lists_and_help_import_nothing_slow(command: list[str]) -> None:
    code = (
        "import sys\nfrom cosmos_core.cli.main import main\n"
        f"sys.argv = ['cosmos', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print(sorted({SLOW!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "[]\n"
