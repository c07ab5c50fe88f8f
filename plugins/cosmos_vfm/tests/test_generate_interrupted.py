"""What an interrupted `cosmos generate` has finished is shown and kept, and the same command goes on."""

from __future__ import annotations

import json
import pickle
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_core.data.video import write_mp4
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.generate import outputs
from cosmos_vfm.generate.clips import Settings
from cosmos_vfm.generate.job import Job
from cosmos_vfm.generate.prompt_file import Row
from cosmos_vfm.generate.start import start
from cosmos_vfm.sizes import MODEL_SIZES
from tests.tiny_generator import write_generator

PLUGINS = PluginManager.discover()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_generator(tmp_path_factory.mktemp("source") / "published", MODEL_SIZES["tiny"]))


def generate(source: str, output: Path, *prompts: str, steps: int = 2, **job: Any) -> list[dict[str, Any]]:
    settings = Settings(steps=steps, frames=5, size="32x32")
    rows = [Row(prompt=prompt) for prompt in prompts]
    return start(Job(source=source, **job), rows, settings, validation=0, output=output, plugins=PLUGINS)[1]


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stop as Ctrl-C does when so many clips are made, and return those made."""
    clips_of = VfmFamily.clips
    made: list[Any] = []

    def clips(*arguments: Any, **more: Any) -> Any:
        if len(made) == count:
            raise KeyboardInterrupt
        made.append(arguments)
        return clips_of(*arguments, **more)

    monkeypatch.setattr(VfmFamily, "clips", clips)
    return made


def test_finished_clips_are_shown_and_the_same_command_makes_the_others(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, page = tmp_path / "out", tmp_path / "out/index.html"
    for finished in (0, 2):
        with monkeypatch.context() as patch:
            interrupt_after(finished, patch)
            with pytest.raises(KeyboardInterrupt):
                generate(source, folder, "a", "b", "c")
        assert page.is_file() is bool(finished)
    assert "missing: 1 clip" in page.read_text()
    assert 'src="clip_001.mp4"' in page.read_text()
    first = (folder / "clip_000.mp4").stat().st_mtime_ns
    for other in ({"steps": 3}, {}):
        with pytest.raises(UserError, match="is there already"):
            generate(source, folder, "a", "b" if other else "d", "c", **other)
    made = interrupt_after(3, monkeypatch)
    results = generate(source, folder, "a", "b", "c")
    assert len(made) == 1
    assert [result["prompt"] for result in results] == ["a", "b", "c"]
    assert [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()] == results
    assert (folder / "clip_000.mp4").stat().st_mtime_ns == first
    assert 'src="clip_002.mp4"' in page.read_text()
    assert "missing" not in page.read_text()
    with pytest.raises(UserError, match="has all these clips already"):
        generate(source, folder, "a", "b", "c")


def test_a_command_that_goes_on_can_be_given_to_other_processes(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Job] = []
    generate(source, tmp_path / "out", "a")
    with monkeypatch.context() as patch:
        patch.setattr("cosmos_vfm.generate.start.generate_all", lambda job, plugins: given.append(job))
        generate(source, tmp_path / "out", "a", "b")
    assert pickle.loads(pickle.dumps(given[0])).done == {(0, "published")}


def test_a_page_that_a_command_did_not_come_to_is_made_by_the_same_one(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of clips that were all finished by the second command, after a page of those by the first."""

    def full(*arguments: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            generate(source, tmp_path / "out", "a", "b")
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_contact_sheet", full)
        with pytest.raises(UserError, match="cannot be written"):
            generate(source, tmp_path / "out", "a", "b")
    made = interrupt_after(0, monkeypatch)
    assert [result["prompt"] for result in generate(source, tmp_path / "out", "a", "b")] == ["a", "b"]
    assert not made
    page = (tmp_path / "out/index.html").read_text()
    assert 'src="clip_001.mp4"' in page
    assert "missing" not in page


def test_the_folder_of_a_command_that_is_not_interrupted_but_at_work_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would make the same clips, in the same files. The folder may be a link."""

    def clips(*arguments: Any, **more: Any) -> Any:
        with pytest.raises(UserError, match="another command writes the same output"):
            generate(source, tmp_path / "out", "a")
        raise KeyboardInterrupt

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    monkeypatch.setattr(VfmFamily, "clips", clips)
    with pytest.raises(KeyboardInterrupt):
        generate(source, tmp_path / "out", "a")


def test_results_that_name_a_file_elsewhere_are_none_of_an_interrupted_command(source: str, tmp_path: Path) -> None:
    generate(source, tmp_path / "out", "a")
    results = tmp_path / "out/results.jsonl"
    results.write_text(results.read_text().replace("clip_000.mp4", "../out/clip_000.mp4"))
    with pytest.raises(UserError, match="choose another folder"):
        generate(source, tmp_path / "out", "a", "b")


def test_a_result_that_a_full_disk_cut_off_is_made_again(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "out/results.jsonl"
    generate(source, tmp_path / "out", "a", "b")
    results.write_bytes(results.read_bytes()[:-20])
    made = interrupt_after(2, monkeypatch)
    again = generate(source, tmp_path / "out", "a", "b", "c")
    assert len(made) == 2
    assert [json.loads(line) for line in results.read_text().splitlines()] == again


def test_a_clip_that_is_gone_does_not_hide_a_second_interruption(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(source, tmp_path / "out", "a", "b")
    (tmp_path / "out/clip_001.mp4").unlink()
    interrupt_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        generate(source, tmp_path / "out", "a", "b")
    assert "missing: 1 clip" in (tmp_path / "out/index.html").read_text()


def test_as_many_clips_of_other_prompts_are_told_as_such(source: str, tmp_path: Path) -> None:
    generate(source, tmp_path / "out", "a")
    with pytest.raises(UserError, match="of other weights, prompts or settings"):
        generate(source, tmp_path / "out", "b")


def test_other_settings_than_those_of_the_finished_clips_are_told(source: str, tmp_path: Path) -> None:
    vae, words = f"{source}/vae", f"{source}/text_tokenizer"
    generate(source, tmp_path / "out", "a", recipe="vision_sft_demo", overrides=("trainer.seed=1",))
    for other, told in (
        ({"precision": "bfloat16"}, "precision 'float32', not 'bfloat16'"),
        ({"vae": vae}, f"video_tokenizer 'block_dct', not '{vae}'"),
        ({"text_tokenizer": words}, f"text_tokenizer 'words', not '{words}'"),
        ({"overrides": ("trainer.seed=2",)}, "overrides ['trainer.seed=1'], not ['trainer.seed=2']"),
        ({"recipe": "vision_sft_nano"}, "recipe 'vision_sft_demo', not 'vision_sft_nano'"),
    ):
        settings = {"recipe": "vision_sft_demo", "overrides": ("trainer.seed=1",), **other}
        with pytest.raises(UserError) as caught:
            generate(source, tmp_path / "out", "a", "b", **settings)
        assert told in caught.value.problems[0].message
        assert "give the same command" in caught.value.problems[0].hint


def test_the_other_end_of_a_video_makes_another_clip(source: str, tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", np.zeros((7, 32, 32, 3), np.uint8), 5.0)
    row = Row(prompt="a", video=tmp_path / "a.mp4")
    first, last = (Settings(steps=2, frames=9, size="32x32", keep_last=last) for last in (False, True))
    given: dict[str, Any] = {"validation": 0, "output": tmp_path / "out", "plugins": PLUGINS}
    start(Job(source=source), [row], first, **given)
    with pytest.raises(UserError) as caught:
        start(Job(source=source), [row], last, **given)
    assert "keep_last False, not True" in caught.value.problems[0].message


def test_a_prompt_with_a_line_separator_has_a_result(source: str, tmp_path: Path) -> None:
    assert generate(source, tmp_path / "out", "one\u2028two")[0]["prompt"] == "one\u2028two"
