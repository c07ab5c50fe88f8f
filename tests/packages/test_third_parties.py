"""Packages nobody here has heard of, installed by pip alone: they add, they fail, they clash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT, cosmos
from tests.packages.builder import HEADER, install, write_plugin, write_recipes

DATASET = """
@hookimpl
def cosmos_datasets():
    yield DatasetSpec(name="{name}", summary="x", yields="tiny", config="{config}", source="{source}")
"""
TINY = DATASET.format(
    name="twins", config="cosmos_core.builtin.tiny.config:TinyData", source="cosmos_core.builtin.tiny.source:TinySource"
)

ALWAYS = """
from cosmos_core.plugin import CallbackSpec

@hookimpl
def cosmos_callbacks():
    yield CallbackSpec(name="{name}", summary="x", tasks=("vfm",), always=True, config="no.where:C", callback="x:B")
"""

BAD = {
    "acme_raises": "raise RuntimeError('no licence')",
    "acme_exits": "import sys\nsys.exit(3)",
    "acme_syntax": "def broken(:\n",
    "acme_hook_raises": HEADER + "@hookimpl\ndef cosmos_datasets():\n    raise KeyError('lost')\n",
    "acme_late": HEADER + "@hookimpl\ndef cosmos_datasets():\n    yield from ()\n    raise OSError('late')\n",
    "acme_junk": HEADER + "@hookimpl\ndef cosmos_datasets():\n    return ['junk']\n",
    "acme_none": HEADER + "@hookimpl\ndef cosmos_datasets():\n    return 7\n",
    "acme_arguments": HEADER + "@hookimpl\ndef cosmos_check_run(plans):\n    return []\n",
    "acme_unknown": HEADER + "@hookimpl\ndef cosmos_dataset():\n    return []\n",
    "acme_bad_field": HEADER + DATASET.format(name="Bad Name", config="a:b", source="a:b"),
    "acme_bad_ref": HEADER + DATASET.format(name="bad", config="no reference", source="a:b"),
}
REASONS = {
    "raises": ("broken", "RuntimeError: no licence", "plugin.py:1"),
    "exits": ("broken", "SystemExit: 3", "plugin.py:2"),
    "syntax": ("broken", "SyntaxError", "plugin.py"),
    "hook_raises": ("broken", "KeyError: 'lost'", "plugin.py:7"),
    "late": ("broken", "OSError: late", "plugin.py:8"),
    "junk": ("broken", "cosmos_datasets must yield DatasetSpec, got str", "plugin.py:5"),
    "none": ("broken", "TypeError", "plugin.py:5"),
    "arguments": ("broken", "plans", ""),
    "unknown": ("broken", "did you mean 'cosmos_datasets'?", "plugin.py:5"),
    "bad_field": ("broken", "name", "plugin.py:8"),
    "bad_ref": ("broken", "package.module:attribute", "plugin.py:8"),
    "outdated": ("outdated", "COSMOS_API 0", ""),
    "undated": ("outdated", "COSMOS_API None", ""),
}
GOOD = {
    "acme_outdated": HEADER.replace("= 1", "= 0"),
    "acme_undated": "",
    "acme_newer": HEADER + "@hookimpl(optionalhook=True)\ndef cosmos_of_tomorrow():\n    return []\n",
    "acme_torch": HEADER + "import torch\n",
    "acme_slow": HEADER + "import time\ntime.sleep(1)\n",
    "acme_first": HEADER + TINY,
    "acme_second": HEADER + TINY,
    "acme_dangling": HEADER + DATASET.format(name="dangling", config="nowhere.config:X", source="nowhere:Y"),
    "acme_always": HEADER + ALWAYS.format(name="of_another_task"),
    "acme_check": HEADER + "@hookimpl\ndef cosmos_check_run(plan):\n    raise ValueError('checked badly')\n",
}


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything above, and a recipe pack, in one environment."""
    root = tmp_path_factory.mktemp("packages")
    folders = [write_plugin(root, name, module) for name, module in {**BAD, **GOOD}.items()]
    recipes = {
        "acme_tiny": 'extends = "cosmos-core:hello"\nsummary = "From a pack"\n[job]\nname = "acme_tiny"\n',
        "hello": 'extends = "cosmos-core:hello"\nsummary = "A second hello"\n[job]\nname = "other"\n',
        "acme_needs": 'extends = "cosmos-core:hello"\nrequires = ["acme-missing>=2", "cosmos-core>=99"]\n',
    }
    folders.append(write_recipes(root, "acme_recipes", recipes))
    return install(root / "site", *folders)


@pytest.fixture(scope="module")
def listed(guests: dict[str, str]) -> dict[str, dict]:
    rows = json.loads(cosmos("plugins", "list", "--json", env=guests).stdout)
    return {row["plugin"] or row["distribution"]: row for row in rows}


@pytest.mark.parametrize("name", REASONS)
def test_a_bad_guest_is_a_line_with_a_reason(listed: dict[str, dict], name: str) -> None:
    state, message, place = REASONS[name]
    assert listed[name]["state"] == state
    assert message in listed[name]["reason"]
    assert place in listed[name]["reason"]
    assert listed[name]["version"] == "1.0"


def test_guests_that_only_behave_badly_work_and_are_remarked_on(listed: dict[str, dict]) -> None:
    assert listed["torch"]["state"] == listed["slow"]["state"] == "ok"
    assert "imports torch while registering" in listed["torch"]["reason"]
    assert "ms to every command" in listed["slow"]["reason"]


def test_a_hook_of_a_newer_version_may_be_optional(listed: dict[str, dict]) -> None:
    assert listed["newer"]["state"] == "ok"


def test_our_own_plugins_do_not_notice(listed: dict[str, dict]) -> None:
    assert all(listed[name]["state"] == "ok" for name in ("core", "vfm", "bridge", "vlm", "videophy"))


def test_a_run_that_needs_no_guest_runs(guests: dict[str, str], tmp_path: Path) -> None:
    """Not even one with a callback that always runs, in runs of another task, and that cannot be loaded."""
    env = {**guests, "COSMOS_DISABLE_PLUGINS": "check,torch,slow"}
    done = cosmos("run", "cosmos-core:hello", "trainer.max_iter=5", "--output-root", str(tmp_path), env=env)
    assert "outcome: done" in done.stdout


def test_a_check_that_fails_is_a_problem_that_names_its_plugin(guests: dict[str, str], tmp_path: Path) -> None:
    error = cosmos("run", "cosmos-core:hello", "--output-root", str(tmp_path), env=guests, code=2).stderr
    assert "ValueError: checked badly" in error
    assert "COSMOS_DISABLE_PLUGINS=check" in error
    assert "Traceback" not in error


def test_a_clash_spoils_one_name_and_the_full_name_always_works(guests: dict[str, str], tmp_path: Path) -> None:
    env = {**guests, "COSMOS_DISABLE_PLUGINS": "check,torch,slow"}
    run = ("run", "cosmos-core:hello", "--dry-run", "--output-root", str(tmp_path))
    error = cosmos(*run, "dataloader_train.dataset.type=twins", env=env, code=2).stderr
    assert "acme-first 1.0" in error
    assert "acme-second 1.0" in error
    assert "acme-first:twins" in error
    plan = cosmos(*run, "dataloader_train.dataset.type=acme-second:twins", env=env).stdout
    assert 'type = "acme-second:twins"' in plan


def test_a_recipe_pack_needs_no_python(guests: dict[str, str], listed: dict[str, dict]) -> None:
    assert listed["acme-recipes"]["provides"] == ["3 recipes"]
    assert "From a pack" in cosmos("recipes", "list", env=guests).stdout


def test_clashing_recipes_name_both_and_the_full_name_works(guests: dict[str, str]) -> None:
    error = cosmos("recipes", "show", "hello", env=guests, code=2).stderr
    assert "acme-recipes" in error
    assert "cosmos-core" in error
    assert 'name = "other"' in cosmos("recipes", "show", "acme-recipes:hello", env=guests).stdout


def test_a_recipe_says_what_it_requires(guests: dict[str, str]) -> None:
    error = cosmos("recipes", "show", "acme_needs", env=guests, code=2).stderr
    assert "pip install 'acme-missing>=2'" in error
    assert "cosmos-core>=99" in error


def test_plugins_check_loads_every_reference(guests: dict[str, str]) -> None:
    text = cosmos("plugins", "check", env=guests, code=1).stdout
    assert "dangling: config nowhere.config:X: ModuleNotFoundError" in text
    assert "raises: RuntimeError: no licence" in text
    assert "vfm: ok" in text
    assert cosmos("plugins", "check", "vfm", env=guests).stdout == "vfm: ok\n"
    assert "did you mean 'vfm'?" in cosmos("plugins", "check", "vfn", env=guests, code=2).stderr


def test_our_own_plugins_pass_the_check() -> None:
    lines = cosmos("plugins", "check").stdout.splitlines()
    assert {line.partition(": ")[2] for line in lines} == {"ok"}
    assert len(lines) == 5


@pytest.mark.slow
def test_a_new_plugin_installs_runs_and_passes_its_own_tests(tmp_path: Path) -> None:
    name = "blue_sky"  # Is blue-sky for pip.
    folder = tmp_path / f"{name}_cosmos"
    assert f"cosmos run {name}_hello" in cosmos("plugins", "new", name, "-o", str(folder)).stdout
    env = install(tmp_path / "site", folder)
    assert cosmos("plugins", "check", name, env=env).stdout == f"{name}: ok\n"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(folder / "tests"), "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "3 passed" in done.stdout
    cosmos("run", f"{name}_hello", "--output-root", str(tmp_path / "runs"), env=env)
    score = cosmos(name, "score", str(tmp_path / f"runs/cosmos3/sft/{name}_hello"), env=env).stdout
    assert float(score) < 0.5


def test_the_readme_shows_the_package_that_is_written(tmp_path: Path) -> None:
    cosmos("plugins", "new", "acme", "-o", str(tmp_path / "acme_cosmos"))
    readme = (ROOT / "README.md").read_text()
    shown = (tmp_path / "acme_cosmos/src/acme_cosmos/plugin.py").read_text()
    assert shown.strip() in readme


@pytest.mark.parametrize("name", ["Acme", "9lives", "a-b", ""])
def test_impossible_plugin_names_are_refused(name: str, tmp_path: Path) -> None:
    error = cosmos("plugins", "new", name, "-o", str(tmp_path / "x"), code=2).stderr
    assert "nothing was written" in error
    assert not (tmp_path / "x").exists()
