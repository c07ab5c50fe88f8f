"""A run resumes with what it was trained with, or says what differs: refused where tensors or objective change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.command import cosmos, metric_records

SHORT = (
    "trainer.run_validation=false",
    "trainer.logging_iter=1",
    "scheduler.warm_up_steps=[1]",
    "scheduler.cycle_lengths=[8]",
    "dataloader_train.max_samples_per_batch=2",
    "trainer.callbacks.every_n_draw_sample.steps=1",
    "trainer.callbacks.every_n_draw_sample.count=1",
)
STEP = "checkpoints/iter_000000002"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("changes") / "data"
    cosmos("data", "prepare", "bridge", "--synthetic", "8", "--val", "2", "-o", str(root))
    return root


def command(root: Path, name: str, steps: int, *more: str) -> tuple[str, ...]:
    where = (f"job.name={name}", "--output-root", str(root))
    return ("run", "vision_sft_demo", *SHORT, f"trainer.max_iter={steps}", *where, *more)


@pytest.fixture(scope="module")
def root(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `plain` has trained two steps, and `adapters` two of adapters alone."""
    root = tmp_path_factory.mktemp("runs")
    cosmos(*command(root, "plain", 2), env={"DATASET_PATH": str(data)})
    cosmos(*command(root, "adapters", 2, *ADAPTERS), env={"DATASET_PATH": str(data)})
    return root


ADAPTERS = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "model.ema.enabled=false")
REFUSED = [
    ("plain", (), "model.flow.loss_scale=20.0", "is 20, iter_000000002 (launch 1) was trained with 1;"),
    ("plain", (), "model.flow.shift={256=1.0}", "was trained with { 256 = 3, 480 = 5, 720 = 10 };"),
    ("plain", (), "model.tokenizer.type=wan22", 'was trained with "block_dct";'),
    ("plain", (), "model.text_tokenizer.type=hf", 'was trained with "words";'),
    ("plain", (), "model.ema.enabled=false", "is false, iter_000000002 (launch 1) was trained with true;"),
    ("plain", (), 'optimizer.keys_to_select=["moe_gen"]', 'is ["moe_gen"], iter_000000002 (launch 1) was trained'),
    ("plain", (), "model.tier=tiny_edge", 'was trained with "tiny";'),
    ("adapters", ADAPTERS, "model.lora_alpha=64", "is 64, iter_000000002 (launch 1) was trained with 32;"),
    ("adapters", ADAPTERS, "model.lora_rank=4", "was trained with 16;"),
    ("adapters", (), "model.lora_enabled=false", "is false, iter_000000002 (launch 1) was trained with true;"),
]


@pytest.mark.parametrize(("name", "kept", "override", "words"), REFUSED, ids=[case[2] for case in REFUSED])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_what_changes_the_meaning_of_saved_tensors_or_the_objective_is_refused(
    root: Path, data: Path, name: str, kept: tuple[str, ...], override: str, words: str, dry: tuple[str, ...]
) -> None:
    run_dir = root / "cosmos3/sft" / name
    before = sorted(run_dir.rglob("*"))
    said = cosmos(*command(root, name, 4, *kept, override, *dry), env={"DATASET_PATH": str(data)}, code=2).stderr
    key = override.partition("=")[0]
    (line,) = [line for line in said.splitlines() if line.startswith(f"  {key}: ")]
    assert words in line
    assert "change it back" in line
    way_out = f"job.name=NAME checkpoint.load_path={run_dir / STEP}/model"
    assert (way_out in said) == (name == "plain"), "adapters alone are no weights to begin with"
    assert sorted(run_dir.rglob("*")) == before


def test_all_refused_keys_are_named_at_once(root: Path, data: Path) -> None:
    changed = ("model.flow.loss_scale=20.0", "model.ema.enabled=false", "trainer.seed=7")
    said = cosmos(*command(root, "plain", 4, *changed), env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "2 problems" in said
    assert said.count("job.name=NAME") == 1


def test_the_way_out_that_a_refusal_names_works(root: Path, data: Path, tmp_path: Path) -> None:
    weights = f"checkpoint.load_path={root / 'cosmos3/sft/plain' / STEP}/model"
    more = ("model.flow.loss_scale=20.0", "model.init=pretrained", weights)
    done = cosmos(*command(tmp_path, "other", 2, *more), env={"DATASET_PATH": str(data)})
    assert "warm from" in done.stderr
    assert "changed since" not in done.stderr


def test_anything_else_is_listed_in_plan_and_log_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    cosmos(*command(tmp_path, "plain", 2), env={"DATASET_PATH": str(data)})
    changed = ("trainer.seed=7", "model.precision=bfloat16", "model.ema.rate=0.2", "optimizer.lr=1e-3")
    listed = (
        'model.precision "float32" -> "bfloat16"',
        "model.ema.rate 0.1 -> 0.2",
        "optimizer.lr 0.003 -> 0.001",
        "trainer.max_iter 2 -> 4",
        "trainer.seed 42 -> 7",
    )
    resumed = command(tmp_path, "plain", 4, *changed)
    plan = cosmos(*resumed, "--dry-run", env={"DATASET_PATH": str(data)}).stdout
    (line,) = [line for line in plan.splitlines() if line.startswith("# changed since step 2: ")]
    assert sorted(line.partition("step 2: ")[2].split(", ")) == sorted(listed)
    log = cosmos(*resumed, env={"DATASET_PATH": str(data)}).stderr
    for change in listed:
        assert f"warning: changed since iter_000000002 (launch 1): {change}" in log
    assert [record["step"] for record in metric_records(tmp_path / "cosmos3/sft/plain") if "loss" in record] == [
        1,
        2,
        3,
        4,
    ]


def test_another_run_may_go_on_from_a_checkpoint_with_other_recompute_sampling_and_paths(
    root: Path, data: Path, tmp_path: Path
) -> None:
    source = f"checkpoint.load_path={root / 'cosmos3/sft/plain' / STEP}"
    changed = ("model.activation_checkpointing.mode=full", "model.sampling.steps=3", "model.tokenizer.vae_path=/moved")
    log = cosmos(*command(tmp_path, "new", 3, source, *changed), env={"DATASET_PATH": str(data)}).stderr
    assert "resume from" in log
    for change in (
        'model.activation_checkpointing.mode "none" -> "full"',
        "model.sampling.steps 20 -> 3",
        'model.tokenizer.vae_path not set -> "/moved"',
    ):
        assert f"(launch 1): {change}" in log
    assert [record["step"] for record in metric_records(tmp_path / "cosmos3/sft/new") if "loss" in record] == [3]


def test_what_is_switched_off_before_and_after_is_listed_and_not_refused(root: Path, data: Path) -> None:
    idle = ("model.lora_rank=4", "model.lora_alpha=64")
    plan = cosmos(*command(root, "plain", 4, *idle, "--dry-run"), env={"DATASET_PATH": str(data)}).stdout
    assert "# changed since step 2: model.lora_rank 16 -> 4, model.lora_alpha 32 -> 64, trainer.max_iter 2 -> 4" in plan


def test_another_run_is_refused_what_the_run_itself_is(root: Path, data: Path, tmp_path: Path) -> None:
    source = f"checkpoint.load_path={root / 'cosmos3/sft/plain' / STEP}"
    more = (source, "model.flow.loss_scale=20.0")
    said = cosmos(*command(tmp_path, "new", 3, *more), env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "model.flow.loss_scale: is 20" in said
    assert (
        f"or start a run from these weights alone: checkpoint.load_path={root / 'cosmos3/sft/plain' / STEP}/model"
        in said
    )
    assert not list(tmp_path.iterdir())


def test_another_run_that_would_train_no_step_is_refused(root: Path, data: Path, tmp_path: Path) -> None:
    source = f"checkpoint.load_path={root / 'cosmos3/sft/plain' / STEP}"
    said = cosmos(*command(tmp_path, "new", 2, source), env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "trainer.max_iter: is 2" in said
    assert "has 2 steps already" in said
    assert f"{STEP}/model" in said


@pytest.mark.parametrize("how", ["a link to the checkpoint", "a link to the run", "a path through the parent"])
def test_a_checkpoint_is_compared_however_its_folder_is_named(how: str, root: Path, data: Path, tmp_path: Path) -> None:
    run_dir, link = root / "cosmos3/sft/plain", tmp_path / "link"
    named = {
        "a link to the checkpoint": (run_dir / STEP, link),
        "a link to the run": (run_dir, link),
        "a path through the parent": (run_dir, run_dir / STEP / ".."),
    }
    target, source = named[how]
    link.symlink_to(target)
    more = (f"checkpoint.load_path={source}", "model.flow.loss_scale=20.0")
    said = cosmos(*command(tmp_path, "new", 3, *more), env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "model.flow.loss_scale: is 20, iter_000000002 (launch 1) was trained with 1;" in said


def test_a_checkpoint_without_any_record_is_said_not_to_be_compared(root: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "cosmos3/sft/plain" / STEP, tmp_path / "copied")
    source, env = f"checkpoint.load_path={tmp_path / 'copied'}", {"DATASET_PATH": str(data)}
    plan = cosmos(*command(tmp_path, "new", 3, source, "--dry-run"), env=env).stdout
    assert f"resume from {tmp_path / 'copied'} (no record says what trained it, so no setting is compared)" in plan
    said = cosmos(*command(tmp_path, "new", 2, source), env=env, code=2).stderr
    assert f"trainer.max_iter: is 2, but {tmp_path / 'copied'} has 2 steps already" in said
    assert not (tmp_path / "cosmos3/sft/new/config.toml").exists()


@pytest.mark.parametrize("more", [(), ADAPTERS], ids=["whole weights", "adapters"])
def test_adapters_alone_are_refused_as_a_base_and_the_way_to_one_is_named(
    more: tuple[str, ...], root: Path, data: Path, tmp_path: Path
) -> None:
    source = f"checkpoint.load_path={root / 'cosmos3/sft/adapters' / STEP}/model"
    said = cosmos(*command(tmp_path, "new", 2, source, *more), env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "a run cannot start from adapters alone; nothing was started" in said
    assert "cosmos export folds adapters into their base" in said
    assert "missing" not in said
