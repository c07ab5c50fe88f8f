"""What is decided before a process starts: mesh, run directory, where weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.config import Parallelism, RunConfig
from cosmos_core.errors import UserError
from cosmos_core.plan import RunPaths, RunPlan
from cosmos_core.plan.checkpoint import doubts, latest_complete
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.make import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load

PLUGINS = PluginManager.discover()


def config(*overrides: str) -> RunConfig:
    return load("hello", overrides, plugins=PLUGINS)


def plan(root: Path, *overrides: str, world: int = 1, fresh: bool = False) -> RunPlan:
    return make_plan(config(*overrides), output_root=root, world=world, distributions={}, fresh=fresh)


def checkpoint(checkpoints: Path, step: int, *, components: tuple[str, ...] = ("model", "trainer")) -> Path:
    folder = checkpoints / f"iter_{step:09d}"
    for component in components:
        (folder / component).mkdir(parents=True)
        (folder / component / ".metadata").touch()
    return folder


@given(shard=st.integers(1, 8), replicate=st.integers(1, 4), context=st.integers(1, 4))
@settings(deadline=None)
def test_minus_one_is_solved(shard: int, replicate: int, context: int) -> None:
    world = shard * replicate * context
    written = {"data_parallel_replicate_degree": replicate, "context_parallel_shard_degree": context}
    found = solve_degrees(Parallelism(data_parallel_shard_degree=-1, **written), world)
    assert (found.shard, found.replicate, found.context, found.world) == (shard, replicate, context, world)
    both = Parallelism(data_parallel_shard_degree=shard, data_parallel_replicate_degree=-1)
    assert solve_degrees(both, shard * replicate).replicate == replicate


def test_degrees_that_do_not_fit_name_what_would() -> None:
    with pytest.raises(UserError) as refused:
        solve_degrees(Parallelism(data_parallel_shard_degree=3, context_parallel_shard_degree=2), 8)
    assert "must be 4" in refused.value.problems[0].hint


def test_the_run_directory_is_project_group_name(tmp_path: Path) -> None:
    assert plan(tmp_path).run_dir == tmp_path / "cosmos3/sft/hello"
    assert plan(tmp_path, "job.group=trial", "job.name=b").run_dir == tmp_path / "cosmos3/trial/b"


def test_a_cache_that_runs_fill_has_a_folder_which_the_plan_tells(tmp_path: Path) -> None:
    """All runs of an output root share it; a folder that the recipe names is kept, and so is one already filled."""

    def caching(*overrides: str) -> RunPlan:
        configured = load("vision_sft_demo", overrides, plugins=PLUGINS)
        return make_plan(configured, output_root=tmp_path, world=1, distributions={}, fresh=False)

    auto = caching("dataloader_train.cache=auto", "dataloader_train.cache_gib=7.5")
    assert auto.config.dataloader_train.cache_dir == f"{tmp_path}/latent_cache"
    assert auto.summary()["latent cache"] == f"filled by this run in {tmp_path}/latent_cache, at most 7.5 GiB"
    named = caching("dataloader_train.cache=auto", "dataloader_train.cache_dir=/scratch")
    assert named.config.dataloader_train.cache_dir == "/scratch"
    for other in (caching(), caching("dataloader_train.cache=/latents")):
        assert other.config.dataloader_train.cache_dir is None
        assert "latent cache" not in other.summary()
    assert "latent cache" not in plan(tmp_path, "dataloader_train.cache=auto").summary()


def test_fresh_takes_the_first_free_name(tmp_path: Path) -> None:
    (tmp_path / "cosmos3/sft/hello").mkdir(parents=True)
    (tmp_path / "cosmos3/sft/hello-2").mkdir()
    assert plan(tmp_path, fresh=True).run_dir.name == "hello-3"
    assert plan(tmp_path).run_dir.name == "hello"


def test_no_weights_at_all_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights"):
        plan(tmp_path, "model.init=pretrained")


def test_a_run_resumes_itself_whatever_load_path_says(tmp_path: Path) -> None:
    own = checkpoint(RunPaths(tmp_path / "cosmos3/sft/hello").checkpoints, 20)
    other = checkpoint(tmp_path / "other", 5)
    found = plan(tmp_path, f"checkpoint.load_path={other}").weights
    assert (found.kind, found.path) == ("resume", own)
    assert str(other) in found.note


@pytest.mark.parametrize("part", ["", "checkpoints", "checkpoints/iter_000000040"])
def test_load_path_may_be_run_checkpoints_or_iteration(tmp_path: Path, part: str) -> None:
    checkpoint(tmp_path / "old/checkpoints", 20)
    newest = checkpoint(tmp_path / "old/checkpoints", 40)
    found = plan(tmp_path, f"checkpoint.load_path={tmp_path / 'old' / part}").weights
    assert (found.kind, found.path) == ("resume", newest)


def test_load_path_without_trainer_is_a_warm_start(tmp_path: Path) -> None:
    (tmp_path / "base/model").mkdir(parents=True)
    (tmp_path / "base/model/.metadata").touch()
    for part in ("base", "base/model"):
        found = plan(tmp_path, f"checkpoint.load_path={tmp_path / part}").weights
        assert (found.kind, found.path) == ("warm", tmp_path / "base")


@pytest.mark.parametrize("made", [False, True])
def test_load_path_that_holds_nothing_is_refused(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing was started"):
        plan(tmp_path, f"checkpoint.load_path={tmp_path / 'empty'}")


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "adapter_model.safetensors"])
def test_adapters_alone_as_a_base_say_how_to_fold_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError) as refused:
        plan(tmp_path, f"checkpoint.load_path={tmp_path}")
    assert "without the weights below them" in refused.value.problems[0].message
    assert "export the run without --adapter" in refused.value.problems[0].hint


def test_the_latest_complete_checkpoint_wins_over_a_broken_pointer(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    good = checkpoint(tmp_path, 20)
    checkpoint(tmp_path, 30, components=("model",))
    (tmp_path / ".iter_000000040.partial").mkdir()
    for pointer in (None, "", "../elsewhere\n", "iter_000000099\n"):
        if pointer is not None:
            (tmp_path / "latest_checkpoint.txt").write_text(pointer)
        assert latest_complete(tmp_path) == good
    for named in ("iter_000000010", "iter_000000030"):
        (tmp_path / "latest_checkpoint.txt").write_text(f"{named}\n")
        assert latest_complete(tmp_path) == tmp_path / named, "it was whole when it was named"


def test_a_named_checkpoint_without_manifest_that_lacks_a_part_is_damaged(tmp_path: Path) -> None:
    """As those of the framework that these are compatible with, which never have one."""
    checkpoints = RunPaths(tmp_path / "cosmos3/sft/hello").checkpoints
    good = checkpoint(checkpoints, 20)
    named = checkpoint(checkpoints, 30, components=("model",))
    (checkpoints / "latest_checkpoint.txt").write_text("iter_000000030\n")
    with pytest.raises(UserError) as refused:
        plan(tmp_path)
    assert refused.value.problems[0].message == "is damaged: trainer/.metadata is missing"
    assert "checkpoint.fallback=true resumes from iter_000000020" in refused.value.problems[0].hint
    found = plan(tmp_path, "checkpoint.fallback=true").weights
    assert (found.kind, found.path) == ("resume", good)
    assert doubts(named) == ["trainer/.metadata is missing"]
    warm = plan(tmp_path, f"checkpoint.load_path={named}", "job.name=other").weights
    assert (warm.kind, warm.path) == ("warm", named), "its weights are whole"


def test_the_plan_tells_what_a_person_wants_to_know(tmp_path: Path) -> None:
    summary = plan(tmp_path, world=4).summary()
    assert summary["processes"].startswith("4 (shard 4 x replicate 1")
    assert "4 data ranks" in summary["batch"]
    assert plan(tmp_path, world=1).summary()["batch"].endswith("1 data rank")
    assert summary["weights"] == "scratch"


def test_a_plan_of_one_sample_a_micro_batch_counts_it_as_one(tmp_path: Path) -> None:
    summary = plan(tmp_path, "dataloader_train.max_samples_per_batch=1").summary()
    assert summary["batch"].startswith("up to 1 sample x ")
