"""`cosmos eval` takes a generator in every form a user has it in; the same weights give the same figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cosmos_core.plan import read_export
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos
from tests.tiny_generator import write_generator

RECIPE = ("--recipe", "vision_sft_demo")
SHORT = (
    "trainer.max_iter=2",
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[0]",
    "dataloader_train.max_samples_per_batch=2",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published generator, its base, a run that started from the base, and the run's exports."""
    root = tmp_path_factory.mktemp("any")
    write_generator(root / "published", MODEL_SIZES["tiny"])
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "2", "-o", str(root / "data"))
    cosmos("convert", str(root / "published"), "-o", str(root / "base"))
    start = ("model.init=pretrained", f"checkpoint.load_path={root / 'base'}")
    skip = 'checkpoint.keys_to_skip_loading=["net_ema."]'
    command = ("run", "vision_sft_demo", "--output-root", str(root / "runs"), *SHORT, *start, skip)
    cosmos(*command, env={"DATASET_PATH": str(root / "data")})
    for name, more in (("export", ()), ("bare", ("--format", "hf"))):
        cosmos("export", str(run_dir(root)), "-o", str(root / name), *more)
    return root


def run_dir(place: Path) -> Path:
    return place / "runs/cosmos3/sft/vision_sft_demo"


def evaluated(place: Path, *arguments: str, root: Path | None = None, code: int = 0) -> Any:
    """The figures; what was said on stderr if it is to fail."""
    environment = {"DATASET_PATH": str(place / "data"), "IMAGINAIRE_OUTPUT_ROOT": str(root or place / "out")}
    done = cosmos("eval", *arguments, *(("--json",) if code == 0 else ()), env=environment, code=code)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)["val_loss"] if code == 0 else done.stderr


def test_a_run_its_checkpoint_and_its_exports_give_the_same_figure(place: Path) -> None:
    run = evaluated(place, str(run_dir(place)))
    checkpoint = run_dir(place) / "checkpoints/iter_000000002"
    for path in (run_dir(place) / "checkpoints", checkpoint, checkpoint / "model"):
        assert evaluated(place, str(path)) == run
    for name in ("export", "export/transformer", "bare"):
        assert evaluated(place, str(place / name), *RECIPE) == pytest.approx(run, rel=1e-5), name
    report = json.loads((run_dir(place) / "evaluation/metrics.json").read_text())
    levels = {f"val_loss_sigma_{level}" for level in (0.2, 0.5, 0.8)}
    assert report["metrics"].keys() == {"val_loss", "caption_effect", *levels}
    assert report["metrics"]["val_loss"] == run
    assert report["data"].startswith("2 samples of val/")
    assert len(set(report["metrics"].values())) == 5
    alone = ("dataloader_val.max_samples_per_batch=1", "model.validation.noise_levels=[]")
    evaluated(place, str(run_dir(place)), *alone)
    report = json.loads((run_dir(place) / "evaluation/metrics.json").read_text())
    assert report["metrics"] == {"val_loss": pytest.approx(run, rel=1e-5)}
    assert report["weights"] == f"{checkpoint} (ema)"
    assert (place / "out/evaluation/export/metrics.json").is_file()


def test_a_base_is_what_was_published_and_what_a_run_of_the_recipe_starts_from(place: Path, tmp_path: Path) -> None:
    base = evaluated(place, str(place / "base"), *RECIPE)
    start = ("model.init=pretrained", f"checkpoint.load_path={place / 'base'}")
    assert evaluated(place, str(place / "published"), *RECIPE) == base
    assert evaluated(place, "vision_sft_demo", *start, root=tmp_path) == base
    assert evaluated(place, str(run_dir(place)), "--weights", "fresh", "-o", str(tmp_path / "here")) == base
    assert (tmp_path / "evaluation/vision_sft_demo/metrics.json").is_file()
    assert (tmp_path / "here/metrics.json").is_file()
    assert base != evaluated(place, "vision_sft_demo")
    assert base != evaluated(place, str(run_dir(place)), "--weights", "live")


def test_overrides_reach_runs_and_others_and_are_checked_as_those_of_a_run(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "other")
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "3", "-o", str(tmp_path / "more"))
    run, export = str(run_dir(place)), str(place / "export")
    before = evaluated(place, run)
    assert evaluated(place, run, f"dataloader_val.dataset.path={tmp_path / 'other'}") == before
    more = f"dataloader_val.dataset.path={tmp_path / 'more'}"
    after = evaluated(place, run, more)
    assert after != before
    # The folder alone means the same: its validation split.
    short = "dataloader_val.dataset.min_window_frames=1"
    assert evaluated(place, export, str(tmp_path / "more"), *RECIPE, short) == pytest.approx(after, rel=1e-5)
    for arguments in ((run,), (export, *RECIPE)):
        said = evaluated(place, *arguments, "dataloader_val.max_sampels_per_batch=2", "trainer.seed=-1", code=2)
        assert "max_samples_per_batch" in said
        assert "trainer.seed" in said
    assert "shortcut" in evaluated(place, run, "shortcut", code=2)
    said = evaluated(place, run, f"checkpoint.load_path={place / 'base'}", code=2)
    assert "SOURCE says which weights" in said


def test_settings_that_make_another_model_of_a_runs_weights_are_refused(place: Path) -> None:
    """Before anything of their size is built; a recipe is compared too."""
    run = str(run_dir(place))
    said = evaluated(place, run, "model.tier=nano", "model.ema.enabled=false", code=2)
    assert 'model.tier: is "nano", the weights were trained with "tiny"' in said
    assert "model.ema.enabled: is false, the weights were trained with true" in said
    assert 'model.tokenizer.type: is "wan22"' in evaluated(place, run, "vision_sft_nano", code=2)
    assert 'job.task: is "vlm"' in evaluated(place, run, "videophy2_demo", code=2)


def test_settings_of_training_alone_may_be_others_and_those_of_the_loss_are_the_recipes(place: Path) -> None:
    run = str(run_dir(place))
    before = evaluated(place, run)
    same = ("vision_sft_demo", 'optimizer.keys_to_select=["moe_gen"]', "model.activation_checkpointing.mode=none")
    assert evaluated(place, run, *same, "model.flow.loss_scale=10") == before
    assert evaluated(place, run, "model.flow.shift={256=1}") != before


def test_data_of_another_family_is_refused(place: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mixed.toml"
    lines = ('extends = "vision_sft_demo"', 'unset = ["dataloader_val.dataset"]', "[dataloader_val.dataset]")
    recipe.write_text("\n".join([*lines, 'type = "tiny"', ""]))
    said = evaluated(place, str(place / "export"), "--recipe", str(recipe), code=2)
    assert "dataset 'tiny' yields" in said
    assert "dataset 'tiny' yields" in evaluated(place, str(recipe), code=2)


def test_an_export_is_a_base_again_once_it_is_converted(place: Path, tmp_path: Path) -> None:
    command = ("run", "vision_sft_demo", "--output-root", str(tmp_path), *SHORT, "model.init=pretrained")
    environment = {"DATASET_PATH": str(place / "data")}
    for name in ("export", "bare"):
        said = cosmos(*command, f"checkpoint.load_path={place / name}", env=environment, code=2).stderr
        assert f"cosmos convert {place / name} -o DIR" in said
    cosmos("convert", str(place / "export"), "-o", str(tmp_path / "again"))
    skip = 'checkpoint.keys_to_skip_loading=["net_ema."]'
    cosmos(*command, f"checkpoint.load_path={tmp_path / 'again'}", skip, env=environment)
    start = evaluated(place, str(tmp_path / "cosmos3/sft/vision_sft_demo"), "--weights", "fresh")
    assert start == pytest.approx(evaluated(place, str(run_dir(place))), rel=1e-5)


def test_wrong_kinds_are_told_what_they_are(place: Path, tmp_path: Path) -> None:
    output = ("-o", str(tmp_path / "out"))
    checkpoint = run_dir(place) / "checkpoints/iter_000000002"
    for command, path, words in (
        ("export", place / "export", ("an export", "already", "cosmos convert")),
        ("convert", run_dir(place), ("is a run", f"cosmos export {run_dir(place)}", "checkpoint.load_path=")),
        ("convert", checkpoint, ("is a checkpoint of a run", "cosmos export")),
        ("convert", place / "base", ("is a converted base", f"checkpoint.load_path={place / 'base'}")),
    ):
        said = cosmos(command, str(path), *output, code=2).stderr
        assert all(word in said for word in words), said
    said = cosmos("export", str(run_dir(place)), "--task", "vlm", *output, code=2).stderr
    assert "was trained with job.task 'vfm'" in said
    assert "--task: is vlm; leave it out" in said
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_evaluated_says_what_is_missing(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = evaluated(place, str(tmp_path / "empty"), code=2)
    assert "looked for a run" in said
    assert "format cosmos3" in said
    assert "did you mean 'vision_sft_demo'" in evaluated(place, "vision_sft_dmo", code=2)
    assert "--recipe" in evaluated(place, str(place / "published"), code=2)
    said = evaluated(place, str(place / "export"), "--recipe", "videophy2_demo", code=2)
    assert "a recipe of task 'vfm'" in said
    assert "there are 2" in evaluated(place, str(run_dir(place)), "--step", "7", code=2)
    assert "--step is for run directories" in evaluated(place, str(place / "base"), *RECIPE, "--step", "2", code=2)
    assert "--weights fresh is for runs" in evaluated(place, str(place / "base"), *RECIPE, "--weights", "fresh", code=2)


def test_an_export_says_what_it_is_and_the_code_of_its_card_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluated(place, str(run_dir(place)))
    assert evaluated(place, str(place / "export")) == pytest.approx(run, rel=1e-5)
    record = read_export(place / "export")
    assert record is not None
    assert (record.task, record.run, record.step, record.weights) == ("vfm", str(run_dir(place)), 2, "ema")
    assert record.base == str(place / "published")
    assert record.data["training data"] == f"bridge {place / 'data'}"
    assert record.generation["steps"] == 20
    assert record.generation["size"] == "64"
    assert record.generation["modes"] == ["text to video", "image to video", "video to video"]
    card = (place / "export/README.md").read_text()
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["library_name"] == "diffusers"
    assert f"| val_loss | {run:.4g} |" not in body
    assert "| loss |" in body
    assert str(place / "published") in body
    code = body.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(place / "export")
    exec(compile(code, "README.md", "exec"), {})
    assert Path("video.webp").stat().st_size > 1000
