"""A misspelt name on the command line or in the environment is an error with the nearest one."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cosmos_core.cli.main import root_command
from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.names import did_you_mean, nearest_part
from cosmos_core.plugin import DatasetSpec, PluginManager
from tests.command import cosmos
from tests.unit.report.run_folders import run_folder

PLUGINS = PluginManager.discover()


def refused(*arguments: str) -> str:
    """What a command says that is refused, run in this process."""
    done = CliRunner().invoke(root_command(PLUGINS), arguments, obj=PLUGINS, standalone_mode=False)
    if isinstance(done.exception, UserError):
        return render(done.exception)
    if done.exception is None:
        assert done.return_value == 2
        return done.stderr
    assert isinstance(done.exception, click.UsageError), done.output
    return done.exception.message


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("data", "prepare", "brigde"), "did you mean 'bridge'?"),
        (("recipes", "show", "visoin_sft_nano"), "did you mean 'vision_sft_nano'?"),
        (("recipes", "check", "helo"), "did you mean 'hello'?"),
        (("recipes", "copy", "helo", "copy.toml"), "did you mean 'hello'?"),
        (("run", "helo", "--dry-run"), "did you mean 'hello'?"),
        (("run", "vision_sft_nanoo.toml"), "did you mean 'vision_sft_nano'?"),
        (("run", "hello", "--dry-run", "dataloader_train.dataset.type=tinny"), "did you mean 'tiny'?"),
        (("run", "hello", "--dry-run", "job.task=tinny"), "did you mean 'tiny'?"),
        (("run", "hello", "--dry-run", "trainer.callbacks.grad_clp.x=1"), "did you mean 'grad_clip'?"),
        (("run", "hello", "--dry-run", "trackers.tensorbord.enabled=true"), "did you mean 'tensorboard'?"),
        (("run", "hello", "--dry-run", "trackers.tensorboard.enable=true"), "did you mean 'enabled'?"),
        (("plugins", "show", "vmf"), "did you mean 'vfm'?"),
        pytest.param(("plugins", "check", "brige"), "did you mean 'bridge'?", marks=pytest.mark.torch),
        (("checkpoints", "fetch", "Cosmos3-Nno"), "did you mean 'Cosmos3-Nano'?"),
        (("convert", "Cosmos3-Nno", "-o", "base"), "did you mean 'Cosmos3-Nano'?"),
        (("convert", "Cosmos3-Nano", "-o", "base", "--to", "vllm"), "--to: no plugin knows the format 'vllm'; did you"),
        (("convert", "Cosmos3-Nano", "-o", "base", "--from", "cosmo3"), "did you mean 'cosmos3'?"),
        (("export", ".", "-o", "out", "--task", "vlmm"), "did you mean 'vlm'?"),
        (("config", "schema", "--task", "vfn"), "did you mean 'vfm'?"),
    ],
)
def test_it_is_refused_with_the_nearest(
    arguments: tuple[str, ...], near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert near in refused(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("checkpoints", "pack"), ()),
        (("checkpoints", "verify"), ()),
        (("eval",), ()),
        (("export",), ("-o", "out")),
        pytest.param(("chat",), ("--prompt", "What is it?"), marks=pytest.mark.torch),
        pytest.param(("generate",), ("-p", "A lighthouse"), marks=pytest.mark.torch),
    ],
)
def test_a_run_below_the_output_root_is_found_by_its_name(
    before: tuple[str, ...], after: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_folder(Path("outputs/train"), "mine")
    assert str(run) in refused(*before, "mine", *after)
    said = refused(*before, "mien", *after)
    assert "below outputs/train" in said
    assert "did you mean 'mine'?" in said


def test_a_setting_written_like_an_option_says_how_settings_are_written() -> None:
    said = cosmos("run", "hello", "--trainer.max_iter=4", code=2).stderr
    assert "No such option '--trainer.max_iter'. A setting has no dashes in front: key=value" in said


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("vmf", ("no installed plugin is 'vmf'", "did you mean 'vfm'?")),
        ("cosmos-vlm", ("no installed plugin is 'cosmos-vlm'", "did you mean 'vlm'?")),
        ("core", ("the built-in plugin is always loaded",)),
        ("vfm, brige , nothing_like_it", ("did you mean 'bridge'?", "installed: bridge, vfm, videophy, vlm")),
    ],
)
def test_so_is_a_plugin_that_the_environment_switches_off(names: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        PluginManager.discover(frozenset(name.strip() for name in names.split(",")))
    said = render(error.value)
    assert all(word in said for word in ("COSMOS_DISABLE_PLUGINS", *words)), said


def test_it_ends_any_command_with_the_code_of_a_user_error() -> None:
    said = cosmos("recipes", "list", env={"COSMOS_DISABLE_PLUGINS": "vmf"}, code=2)
    assert said.stderr.startswith("error: COSMOS_DISABLE_PLUGINS")
    assert said.stdout == ""


def test_a_name_with_its_distribution_gets_the_full_name() -> None:
    with pytest.raises(UserError) as error:
        PLUGINS.registry.get(DatasetSpec, "cosmos-data-bridg:bridge")
    assert "did you mean 'cosmos-data-bridge:bridge'?" in render(error.value)


def test_swapped_letters_come_before_other_slips() -> None:
    assert did_you_mean("vmf", ["vlm", "vfm"]) == "did you mean 'vfm'?"
    assert did_you_mean("brigde", ["bride", "bridge"]) == "did you mean 'bridge'?"
    assert did_you_mean("x", ["bridge"]) == ""
    assert did_you_mean("LR", ["lrs", "lr"]) == "did you mean 'lr'?"


def test_a_part_is_compared_with_parts_of_as_many_words() -> None:
    names = ["model.visual.blocks.0.weight", "lm_head.weight"]
    assert nearest_part("model.visul", names) == "did you mean 'model.visual'?"
    assert nearest_part("visul.", names) == "did you mean 'visual'?"
    assert nearest_part("zzz", names) == ""
