"""All that stands in the way of a run is said at once, each with the command that mends it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cosmos_core.cli.main import root_command
from cosmos_core.config.dump import to_toml
from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.launch.train import plan_run
from cosmos_core.plan import RunPlan
from cosmos_core.plugin import PluginManager
from tests.command import cosmos

PLUGINS = PluginManager.discover()


def planned(recipe: str, *overrides: str, root: Path, nproc: int = 1) -> RunPlan:
    return plan_run(
        recipe,
        overrides,
        plugins=PLUGINS,
        nproc=nproc,
        default_nproc=1,
        fresh=False,
        output_root=root / "runs",
        notify=lambda note: None,
    )


def refused(recipe: str, *overrides: str, root: Path, nproc: int = 1) -> str:
    with pytest.raises(UserError) as error:
        planned(recipe, *overrides, root=root, nproc=nproc)
    assert not (root / "runs").exists()
    return render(error.value)


def commands(text: str) -> list[list[str]]:
    """The words of every command that a message names, as a shell splits them."""
    return [shlex.split(command) for command in re.findall(r"`(cosmos [^`]*)`", text)]


def check_command(words: list[str]) -> None:
    """Raises click's error when the command line would not take these words."""
    command: click.Command = root_command(PLUGINS)
    context = click.Context(command, obj=PLUGINS)
    arguments = words[1:]
    while isinstance(command, click.Group):
        name, command, arguments = command.resolve_command(context, arguments)  # type: ignore[assignment]
        context = click.Context(command, parent=context, info_name=name, obj=PLUGINS)
    command.make_context(words[-1], arguments, parent=context)


def test_nothing_prepared_names_mesh_base_data_video_and_text_tokenizer_together(tmp_path: Path) -> None:
    place = tmp_path / "my place"
    text = refused(
        "vision_sft_nano",
        "model.parallelism.data_parallel_shard_degree=2",
        f"checkpoint.load_path={place}/base",
        f"dataloader_train.dataset.path={place}/sft_dataset_bridge",
        f"model.tokenizer.vae_path={place}/Wan2.2_VAE.pth",
        f"model.text_tokenizer.path={place}/words",
        f"dataloader_train.cache={place}/latents",
        f'dataloader_train.dataset.media_roots=["{place}/media"]',
        root=tmp_path,
        nproc=3,
    )
    assert text.startswith("error: 7 problems with the planned run; nothing was started")
    assert "cannot be 3 processes" in text
    assert "`model.text_tokenizer.path=null`" in text
    assert f"dataloader_train.dataset.media_roots[0]: no such folder: {place}/media" in text
    base, fetched, drawn, vae, cache = commands(text)
    assert base == ["cosmos", "convert", "Cosmos3-Nano", "-o", f"{place}/base"]
    assert fetched == ["cosmos", "data", "prepare", "bridge", "-o", str(place)]
    assert drawn[-4:] == ["--frames", "61", "-o", f"{place}/sft_dataset_bridge"]
    assert vae == ["cosmos", "checkpoints", "fetch", "Wan2.2-VAE", "-o", str(place)]
    assert cache[:4] == ["cosmos", "data", "cache", "vision_sft_nano"]
    assert cache[-2:] == ["-o", f"{place}/latents"]
    assert not any(word.startswith("dataloader_train.cache") for word in cache)
    for words in commands(text):
        check_command(words)


@pytest.mark.parametrize(("recipe", "base"), [("nano", "Cosmos3-Nano"), ("super", "Cosmos3-Super")])
def test_a_reasoner_names_both_splits_weights_and_backbone(recipe: str, base: str, tmp_path: Path) -> None:
    text = refused(f"videophy2_sft_{recipe}", f"dataloader_train.dataset.path={tmp_path}/a b", root=tmp_path)
    assert "3 problems" in text
    prepare = ["cosmos", "data", "prepare", "videophy2"]
    assert [*prepare, "-o", f"{tmp_path}/a b"] in commands(text)
    assert [*prepare, "-o", "examples/data/videophysics"] in commands(text)
    made = ["cosmos", "convert", base, "-o", f"examples/checkpoints/{base}-VLM", "--to", "vlm"]
    assert made in commands(text)
    for words in commands(text):
        check_command(words)
    text = refused(f"videophy2_sft_{recipe}", "model.backbone.model_name=./nowhere", root=tmp_path)
    assert ["cosmos", "checkpoints", "fetch", "Qwen3-VL-2B-Instruct", "-o", "./nowhere"] in commands(text)
    assert "4 problems" in text


@pytest.mark.parametrize(("path", "words"), [("nowhere", "no such folder"), ("data.json", "is a file")])
@pytest.mark.parametrize("loader", ["dataloader_train", "dataloader_val"])
def test_a_local_copy_that_is_not_there_is_found_before_the_run(
    path: str, words: str, loader: str, tmp_path: Path
) -> None:
    (tmp_path / "data.json").write_text("[]")
    validation = ("trainer.run_validation=true", "dataloader_val.dataset.type=llava_ov")
    cap = "dataloader_val.max_samples_per_batch=1"
    text = refused("llava_ov", *validation, cap, f"{loader}.dataset.path={tmp_path / path}", root=tmp_path)
    assert f"{loader}.dataset.path: " in text
    assert words in text


def test_bad_lines_of_an_index_are_found_before_the_run(tmp_path: Path) -> None:
    index = tmp_path / "data/train/video_dataset_file.jsonl"
    index.parent.mkdir(parents=True)
    index.write_text('{"uuid": "a", "vision_path": "a.mp4", "width": 9, "height": 9, "duration": 1}\n' * 2)
    data = f"dataloader_train.dataset.path={tmp_path}/data"
    text = refused("vision_sft_demo", data, "trainer.run_validation=false", root=tmp_path)
    for line in (1, 2):
        assert f"{index}:{line}  field 't2w_windows' is missing" in text
    index.write_text('{"uuid": "a\\ud800", "vision_path": "a.mp4"}\n')
    assert "half of a character" in refused("vision_sft_demo", data, "trainer.run_validation=false", root=tmp_path)


def test_a_dataset_without_usable_clips_is_one_problem_that_names_the_key_of_its_own_table(tmp_path: Path) -> None:
    index = tmp_path / "data/train/video_dataset_file.jsonl"
    index.parent.mkdir(parents=True)
    clip = {"uuid": "a", "vision_path": "a.mp4", "duration": 1, "width": 9, "height": 9, "caption": "A towel."}
    index.write_text(json.dumps(clip) + "\n")
    mixture = f"""[{{type = "bridge", path = "{tmp_path}/data", weight = 1.0, max_duration = 0.5}}]"""
    recipe = tmp_path / "mix.toml"
    recipe.write_text(
        'extends = "vision_sft_demo"\nunset = ["dataloader_train.dataset"]\ntrainer.run_validation = false\n'
        f"dataloader_train.mixture = {mixture}\n"
    )
    text = refused(str(recipe), root=tmp_path)
    assert text.startswith("error: 1 problem with the planned run")
    assert "dataloader_train.mixture[0].path: no usable clip in " in text
    assert "1 x longer than 0.5 s; dataloader_train.mixture[0].max_duration changes it" in text
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    tables = f"""[{{type = "folder", path = "{tmp_path}/t.csv", weight = 1.0}}]"""
    recipe.write_text(recipe.read_text().replace(mixture, tables))
    text = refused(str(recipe), root=tmp_path)
    assert "--caption-column NAME (dataloader_train.mixture[0].caption_column) names it" in text


def test_bad_entries_of_a_manifest_are_found_before_the_run(tmp_path: Path) -> None:
    manifest = tmp_path / "videophy2_train/meta.json"
    manifest.parent.mkdir()
    entries = [{"id": "a", "media": "../../x.mp4", "conversation": "a.json"}, {"id": "b", "media": 3}]
    manifest.write_text(json.dumps(entries))
    (tmp_path / "videophy2_val").symlink_to(manifest.parent)
    paths = (f"dataloader_train.dataset.path={tmp_path}", f"dataloader_val.dataset.path={tmp_path}")
    text = refused("videophy2_demo", *paths, root=tmp_path)
    assert f"{manifest}  entry 0: " in text
    for section in ("dataloader_train", "dataloader_val"):
        assert f"outside {tmp_path}/videophy2_{section[11:]}; {section}.dataset.media_roots = [" in text
    assert "entry 1 lacks id, media or conversation" in text


def test_what_lies_on_the_hub_is_not_checked_and_never_called_missing(tmp_path: Path) -> None:
    summary = planned("llava_ov", root=tmp_path).summary()
    assert summary["not checked"] == "on the Hub: Qwen/Qwen3-VL-8B-Instruct, lmms-lab/LLaVA-OneVision-Data"
    assert "not checked" not in planned("hello", root=tmp_path).summary()
    own = tmp_path / "copy"
    own.mkdir()
    (own / "data.json").write_text('[{"id": "a"}]')
    summary = planned("llava_ov", f"dataloader_train.dataset.path={own}", root=tmp_path).summary()
    assert summary["training data"] == f"llava_ov in {own} (found)"
    assert "lmms-lab" not in summary["not checked"]


def test_problems_of_keys_come_together_and_say_that_paths_were_not_checked(tmp_path: Path) -> None:
    text = refused(
        "vision_sft_nano",
        "optimizer.lrr=1",
        "job.group=${oc.env:NOT_SET_ANYWHERE}",
        "model.tier=huge",
        'job.project="a\\u0000b"',
        root=tmp_path,
    )
    assert "4 problems in " in text
    for words in ("optimizer.lrr: unknown key", "NOT_SET_ANYWHERE is not set", "model.tier: must be one of", "a NUL"):
        assert words in text
    assert text.splitlines()[-1].endswith("mesh were not checked yet; they are once the keys above are right")
    assert "no such folder" not in text


def test_a_finished_run_has_nothing_to_do_whatever_no_longer_fits(tmp_path: Path) -> None:
    for component in ("model", "trainer"):
        folder = tmp_path / "runs/cosmos3/sft/vision_sft_nano/checkpoints/iter_000000500" / component
        folder.mkdir(parents=True)
        (folder / ".metadata").touch()
    misfit = "model.parallelism.data_parallel_shard_degree=2"
    plan = planned("vision_sft_nano", misfit, root=tmp_path, nproc=3)
    assert plan.completion()[0] == "complete at step 500; nothing to do"
    assert "processes" not in plan.summary()
    with pytest.raises(UserError, match="cannot be 3 processes"):
        planned("vision_sft_nano", misfit, "trainer.max_iter=501", root=tmp_path, nproc=3)


@pytest.mark.parametrize("record", ["launch.json", "launch_info.yaml", "launches/3/launch_info.yaml"])
@pytest.mark.parametrize("start", ["iter_000000002/model", "iter_000000002"], ids=["warm", "resume"])
def test_records_of_the_run_that_the_weights_come_from_may_not_be_newer(
    record: str, start: str, tmp_path: Path
) -> None:
    source, step = tmp_path / "source", tmp_path / "source/checkpoints/iter_000000002"
    for component in ("model", "trainer"):
        (step / component).mkdir(parents=True)
        (step / component / ".metadata").touch()
    (source / "launches/3").mkdir(parents=True)
    (source / "launches/3/config.toml").write_text(to_toml(planned("hello", root=tmp_path).config))
    (step / "launch.json").write_text('{"format": 1, "launch": 3}')
    load = f"checkpoint.load_path={source}/checkpoints/{start}"
    assert planned("hello", load, root=tmp_path).weights.path == step
    file = step / record if record == "launch.json" else source / record
    file.write_text('{"format": 7, "launch": 3}')
    text = refused("hello", load, root=tmp_path)
    assert text.count("is in format 7; this version of cosmos-core reads only format 1") == 1
    assert str(file) in text


def test_a_check_goes_through_all_recipes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(f'extends = "hello"\n[optimizer]\n{name} = 1\n')
    said = cosmos("recipes", "check", "one.toml", "hello", "two.toml", "nowhere", cwd=tmp_path, code=2)
    assert "one.toml:3  optimizer.one: unknown key" in said.stderr
    assert "two.toml:3  optimizer.two: unknown key" in said.stderr
    assert "no recipe 'nowhere'" in said.stderr
    assert said.stderr.splitlines()[-1] == "error: 3 of 4 recipes have problems: one.toml, two.toml, nowhere"
    assert said.stdout == "hello: ok\n"
    assert cosmos("recipes", "check", "one.toml", cwd=tmp_path, code=2).stderr.count("error:") == 1


def test_a_dry_run_reads_indices_without_torch(tmp_path: Path) -> None:
    """The second of two problems is in the index, so that it was read."""
    index = tmp_path / "train/video_dataset_file.jsonl"
    index.parent.mkdir()
    index.write_text("{}\n")
    code = (
        "import sys\nfrom cosmos_core.cli.main import main\n"
        "import cosmos_core.launch.hard_exit\n"
        "sys.modules['cosmos_core.launch.hard_exit'].hard_exit = sys.exit\n"
        f"sys.argv = ['cosmos', 'run', 'vision_sft_nano', '--dry-run', 'dataloader_train.dataset.path={tmp_path}']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 2\nassert 'torch' not in sys.modules\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{index}:1  field 'uuid' is missing" in done.stderr
