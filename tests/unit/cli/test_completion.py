"""What the shell offers: commands, recipes, keys, values, runs; by click's own machinery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from cosmos_core.cli.main import root_command
from cosmos_core.plugin import PluginManager
from tests.command import cosmos

PLUGINS = PluginManager.discover()


def offered(*words: str) -> list[CompletionItem]:
    """Completions of the last word."""
    complete = ShellComplete(root_command(PLUGINS), {"obj": PLUGINS}, "cosmos", "_COSMOS_COMPLETE")
    return complete.get_completions(list(words[:-1]), words[-1])


def values(*words: str) -> list[str]:
    return [item.value for item in offered(*words)]


def test_commands_and_groups() -> None:
    assert {"run", "recipes", "plugins", "data"} <= set(values(""))
    assert values("recipes", "sh") == ["show"]
    assert values("data", "prepare", "vid") == ["videophy2"]
    assert values("run", "hello", "--dry") == ["--dry-run"]


@pytest.mark.parametrize(
    "words", [("run",), ("recipes", "show"), ("recipes", "check"), ("config", "explain", "--recipe")]
)
def test_recipe_names_and_files(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vision_mine.toml").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/own.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert {"vision_sft_demo", "vision_sft_nano", "vision_mine.toml"} <= set(values(*words, "vision_"))
    assert values(*words, "deep/o") == ["deep/own.toml"]
    assert values(*words, f"{tmp_path}/deep/") == [f"{tmp_path}/deep/own.toml"]
    assert offered(*words, "no_such")[0].type == "file"


def test_keys_of_the_recipe_on_the_line_and_of_all_without_one() -> None:
    assert values("run", "vision_sft_demo", "optimizer.weight") == ["optimizer.weight_decay="]
    assert "model.flow.loss_scale=" in values("run", "vision_sft_demo", "model.flow.")
    assert values("run", "llava_ov", "model.flow.") == []
    assert "trainer.max_val_iter=" in values("eval", "outputs/some_run", "trainer.max_val")
    assert "model.flow.loss_scale" in values("config", "explain", "model.flow.")
    assert "dataloader_val.dataset.path=" in values("run", "vision_sft_demo", "dataloader_val.dataset.")
    for command in (("run",), ("data", "check"), ("data", "show")):
        keys = values(*command, "vision_sft_demo", "dataloader_train.dataset.")
        assert "dataloader_train.dataset.min_window_frames=" in keys
        assert "dataloader_train.dataset.shuffle_buffer=" not in keys
    of_data = values("data", "check", "rows.jsonl", "dataloader_train.dataset.")
    assert "dataloader_train.dataset.shuffle_buffer=" in of_data
    assert any(item.help == "Base learning rate." for item in offered("run", "hello", "optimizer.lr"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("job.wandb_mode=d",), ["job.wandb_mode=disabled"]),
        (("job.wandb_mode", "="), ["online", "offline", "disabled"]),
        (("job.wandb_mode", "=", "d"), ["disabled"]),
        (("trainer.max_iter=3", "model.ema.enabled="), ["model.ema.enabled=true", "model.ema.enabled=false"]),
        (("trainer.max_iter", "=", "3", "optimizer.weight"), ["optimizer.weight_decay="]),
        (("job.task=v",), ["job.task=vfm", "job.task=vlm"]),
        (("dataloader_train.dataset.type=b",), ["dataloader_train.dataset.type=bridge"]),
    ],
    ids=" ".join,
)
def test_values_of_keys_in_one_word_and_in_the_words_of_bash(words: tuple[str, ...], expected: list[str]) -> None:
    assert values("run", "hello", *words) == expected


def test_runs_below_the_output_root_and_their_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGINAIRE_OUTPUT_ROOT", str(tmp_path))
    run = tmp_path / "cosmos3/sft/mine"
    for step in (20, 400):
        (run / f"checkpoints/iter_{step:09d}").mkdir(parents=True)
    for command in (("export",), ("eval",), ("checkpoints", "pack")):
        assert values(*command, f"{tmp_path}/cos") == [str(run)]
        assert values(*command, str(run), "--step", "") == ["20", "400"]
        assert offered(*command, "elsewhere")[0].type == "dir"


def test_commands_of_plugins_offer_folders_too() -> None:
    for command in ("chat", "generate"):
        assert offered(command, "elsewhere")[0].type in ("dir", "file")


def test_names_from_plugins() -> None:
    assert values("plugins", "show", "v") == ["vfm", "videophy", "vlm"]
    assert "Cosmos3-Nano" in values("convert", "Cosmos3-N")
    assert "Wan2.2-VAE" in values("checkpoints", "fetch", "Wan")
    assert "Cosmos3-Nano-Reasoner" in values("chat", "Cosmos3-Nano-")
    assert values("convert", "X", "--from", "c") == ["cosmos3"]
    assert {"dcp", "hf", "vlm"} == set(values("convert", "X", "--to", ""))
    assert {"vfm", "vlm"} <= set(values("export", "--task", ""))


@pytest.mark.parametrize(
    "line",
    ["cosmos run vision_sft_nano optimizer.", "cosmos export ", "cosmos chat ", "cosmos data prepare "],
    ids=repr,
)
def test_a_completion_imports_nothing_heavy(line: str) -> None:
    words = line.split(" ")
    env = {"_COSMOS_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = (
        "import sys\nfrom cosmos_core.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'numpy', 'av', 'rich', 'cattrs', 'huggingface_hub'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env})
    assert done.stderr == "set()\n"
    assert "plain," in done.stdout or "dir," in done.stdout


def test_bash_adds_no_space_after_a_key() -> None:
    script = cosmos("completion", "bash").stdout
    function = "_cosmos_completion"
    fake = f"{function}() {{ COMPREPLY=(optimizer.lr=); }}; compopt() {{ echo compopt $@; }}"
    done = subprocess.run(["bash", "-c", f"{script}\n{fake}; {function}_of_keys"], capture_output=True, text=True)
    assert done.stdout == "compopt -o nospace\n", done.stderr
    assert "compdef _cosmos_completion_of_keys cosmos" in cosmos("completion", "zsh").stdout
    assert "complete" in cosmos("completion", "fish").stdout
