"""README, Your own conversations: its commands, run as they stand on its rows and its recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.command import ROOT, cosmos
from tests.command_examples import arguments_of
from tests.tiny_reasoner import write_reasoner

PICTURES = ("a.png", "b.png")
BACKBONE = "Qwen/Qwen3-VL-8B-Instruct"


@pytest.fixture(scope="module")
def section() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("## Your own conversations\n")[2].partition("\n## ")[0]


def fenced(section: str, language: str) -> str:
    [block] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


def test_the_commands_of_the_readme_run_as_they_stand(section: str, tmp_path: Path) -> None:
    """With a tiny model in a folder that is called as the one on the Hub."""
    write_reasoner(tmp_path / BACKBONE)
    for name in PICTURES:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "my_dialogs.jsonl").write_text(fenced(section, "json"))
    (tmp_path / "mine.toml").write_text(fenced(section, "toml"))
    lines = [line for line in section.splitlines() if line.startswith("    cosmos ")]
    done = {call[0:2][-1]: cosmos(*call, cwd=tmp_path) for line in lines for call in arguments_of(line)}
    assert list(done) == ["check", "show", "mine.toml"]
    assert "2 in all, 2 read; 2 can be used" in done["check"].stdout
    assert (tmp_path / "outputs/train/data_check/my_dialogs.html").is_file()
    assert json.loads((tmp_path / "shown/sample.json").read_text())["messages"][-1]["role"] == "assistant"
    assert "outcome: done" in done["mine.toml"].stdout
    assert "20/20" in done["mine.toml"].stderr
    exported = ("export", "outputs/train/cosmos3/vlm_llava_ov_demo/mine", "-o", "tuned")
    assert "exported: tuned" in cosmos(*exported, cwd=tmp_path).stdout
    assert "`cosmos eval FOLDER DATA` evaluates these weights" in (tmp_path / "tuned/README.md").read_text()
    assert "val_loss: " in cosmos("eval", "tuned", "my_dialogs.jsonl", "--answers", "0", cwd=tmp_path).stdout
    dry = cosmos("run", "mine.toml", "--dry-run", cwd=tmp_path)
    assert "# check the data, where samples may be longer than a pack: cosmos data check mine.toml" in dry.stdout
    assert "2 can be used" in cosmos("data", "check", "mine.toml", "--no-html", cwd=tmp_path).stdout
