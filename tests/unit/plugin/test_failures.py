"""What fails in a plugin's hook is told with the plugin's own file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.plugin import PluginManager
from cosmos_core.plugin.discovery import Candidate

PLUGIN = """\
import acme_neighbour
from cosmos_core.plugin import hookimpl

COSMOS_API = 1

@hookimpl
def {hook}:
    return acme_neighbour.fail()
"""


@pytest.mark.parametrize("hook", ["cosmos_datasets()", "cosmos_check_run(plan)"])
def test_a_plugin_that_is_one_module_is_not_taken_for_all_that_is_installed_beside_it(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"acme_{hook.partition('(')[0]}"
    (tmp_path / "acme_neighbour.py").write_text("def fail():\n    raise ValueError('lost')\n")
    (tmp_path / f"{name}.py").write_text(PLUGIN.format(hook=hook))
    monkeypatch.syspath_prepend(tmp_path)
    plugins = PluginManager([Candidate("acme", "acme-dist", "1.0", name)])
    said = "".join([plugins.statuses[0].reason, *(problem.message for problem in plugins.check_run(None))])
    assert said.endswith(f"ValueError: lost ({tmp_path / name}.py:8)")
