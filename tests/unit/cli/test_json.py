"""`--json`: valid JSON alone on stdout; warnings and errors on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import cosmos


def printed(*arguments: str, code: int = 0, cwd: Path | None = None) -> Any:
    """What a command prints on stdout, read as JSON."""
    return json.loads(cosmos(*arguments, "--json", code=code, cwd=cwd).stdout)


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("recipes list", {"recipe", "task", "dataset", "distribution", "summary"}),
        ("plugins list", {"plugin", "distribution", "version", "state", "reason", "provides"}),
        ("plugins show vfm", {"kind", "name", "summary"}),
        pytest.param("plugins check bridge", {"plugin", "state", "warning", "faults"}, marks=pytest.mark.torch),
        ("checkpoints list", {"name", "repository", "revision", "summary"}),
        ("config explain lora", {"key", "when", "type", "default", "on resume", "meaning", "owner"}),
    ],
)
def test_lists_are_lists_of_objects(command: str, keys: set[str]) -> None:
    rows = printed(*command.split())
    assert rows
    assert all(keys <= row.keys() for row in rows)


def test_a_recipe_is_one_object_and_its_warnings_go_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text('extends = "vision_sft_demo"\n[model]\njoint_attn_implementation = "flex"\n')
    assert printed("recipes", "show", "hello")["job"]["name"] == "hello"
    done = cosmos("recipes", "show", "hello", "model.config.width=8", "--json", code=None)
    assert "model.width" in done.stderr
    assert done.returncode or json.loads(done.stdout)


def test_every_recipe_is_checked_and_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('extends = "hello"\n[optimizer]\nlrr = 1\n')
    (tmp_path / "worse.toml").write_text("[[")
    files = ["bad.toml", "hello", "worse.toml"]
    bad, good, worse = printed("recipes", "check", *files, code=2, cwd=tmp_path)
    assert (bad["ok"], good["ok"], worse["ok"]) == (False, True, False)
    assert bad["problems"][0]["line"] == 3
    assert "did you mean 'lr'" in bad["problems"][0]["hint"]
    plain = cosmos("recipes", "check", *files, code=2, cwd=tmp_path)
    assert plain.stdout == "hello: ok\n"
    assert "bad.toml:3" in plain.stderr
    assert "worse.toml" in plain.stderr


def test_a_dry_run_is_configuration_and_plan(tmp_path: Path) -> None:
    facts = printed("run", "hello", "--dry-run", "--output-root", str(tmp_path))
    assert facts["config"]["trainer"]["max_iter"] == 60
    assert facts["plan"]["run directory"] == str(tmp_path / "cosmos3/sft/hello")
    assert facts["warnings"] == []
    assert "--json needs --dry-run" in cosmos("run", "hello", "--json", code=2).stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.torch
def test_a_prepared_dataset_is_summed_up(tmp_path: Path) -> None:
    options = ["--synthetic", "5", "-o", str(tmp_path / "clips")]
    facts = {"dataset": str(tmp_path / "clips"), "train": 5, "val": 8, "written": True}
    assert printed("data", "prepare", "bridge", *options, "--val", "8", "--frames", "5") == facts
    assert printed("data", "prepare", "bridge", *options, "--val", "8", "--frames", "5") == {**facts, "written": False}


def test_an_error_leaves_stdout_empty() -> None:
    done = cosmos("recipes", "show", "nothing", "--json", code=2)
    assert done.stdout == ""
    assert "no recipe 'nothing'" in done.stderr
