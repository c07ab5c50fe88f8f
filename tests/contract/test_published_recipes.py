"""A recipe of a published name trains what the published one trains, and says where it is run otherwise.

`published.toml` holds the published values. How they were found out is said there.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from cosmos_core.config.dump import to_plain
from cosmos_core.plan import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import list_recipes, resolve
from cosmos_core.recipes.show import differences
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import ROOT, cosmos
from tests.tiny_generator import write_generator

PLUGINS = PluginManager.discover()
SHIPPED = [recipe.name for recipe in list_recipes() if recipe.distribution.startswith("cosmos-")]
PUBLISHED = tomllib.loads((Path(__file__).parent / "published.toml").read_text())
NAMES = [name for name, values in PUBLISHED.items() if "like" in values]
PACKED = {
    "llava_ov_packed": "llava_ov",
    "videophy2_packed_nano": "videophy2_sft_nano",
    "videophy2_packed_super": "videophy2_sft_super",
}
OURS = {"hello", "vision_sft_demo", "videophy2_demo", *PACKED}
"""Names that nobody published."""
MAPPINGS = {"optimizer.lr_multipliers", "model.flow.shift", "dataloader_train.dataset.conditioning_config"}
"""Tables that are one value."""
NOT_COMPARED = {
    *("dataloader_train.dataset.path", "dataloader_val.dataset.path", "checkpoint.load_path"),
    *("model.tokenizer.vae_path", "model.backbone.safetensors_path", "model.max_new_tokens"),
    *("trainer.distributed_parallelism", "dataloader_train.overlong", "dataloader_val.overlong"),
}
"""Written by recipes, but a place, or a word that only we have."""
WORLDS = (1, 2, 4, 8)


def leaves(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        nested = isinstance(value, dict) and value and key not in MAPPINGS
        found |= leaves(value, f"{key}.") if nested else {key: value}
    return found


def published(name: str, part: str) -> dict[str, Any]:
    """Values of a published recipe, `trains` or `runs`, by dotted key; None for what it leaves out."""
    own = PUBLISHED[name]
    found = published(own["like"], part) if "like" in own else {}
    table = dict(own.get(part, {}))
    return found | dict.fromkeys(table.pop("absent", [])) | leaves(table)


def at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def written(name: str) -> set[str]:
    """Dotted keys that the recipe, or one it extends, sets to a value."""
    paths = resolve(name, plugins=PLUGINS).provenance
    keys = {".".join(path) for path in paths if all(isinstance(part, str) for part in path)}
    keys -= {key for key in keys if key.startswith(tuple(f"{mapping}." for mapping in MAPPINGS))}
    return {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base/model").mkdir(parents=True)
    (tmp_path / "base/model/.metadata").touch()
    return tmp_path / "base"


def planned(name: str, base: Path, world: int) -> Any:
    overrides = [f"checkpoint.load_path={base}"]
    config = resolve(name, overrides, plugins=PLUGINS).config
    return make_plan(config, output_root=base.parent, world=world, distributions={})


def test_every_shipped_recipe_is_either_published_or_ours() -> None:
    assert set(SHIPPED) == set(NAMES) | OURS


def test_the_readme_has_a_row_for_every_shipped_recipe() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(SHIPPED) <= named


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_of_a_published_name_trains_what_that_name_trains(name: str) -> None:
    config = to_plain(resolve(name, plugins=PLUGINS).config)
    wanted = published(name, "trains")
    assert {key: at(config, key) for key in wanted} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_every_key_that_such_a_recipe_writes_is_compared(name: str) -> None:
    """Validation data that a run of the recipe does not use is ours: it serves `cosmos eval`."""
    compared = published(name, "trains").keys() | published(name, "runs").keys() | NOT_COMPARED
    validates = published(name, "trains")["trainer.run_validation"]
    assert {key for key in written(name) if validates or not key.startswith("dataloader_val.")} <= compared


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_lists_exactly_the_settings_it_runs_with_otherwise(name: str) -> None:
    resolved = resolve(name, plugins=PLUGINS)
    config = to_plain(resolved.config)
    wanted = {key: value for key, value in published(name, "runs").items() if at(config, key) != value}
    assert {".".join(path): theirs for path, theirs, _ in differences(resolved)} == wanted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("world", [2, 4, 8])
def test_an_optimizer_step_sees_as_many_micro_batches_as_the_published_one(name: str, world: int, base: Path) -> None:
    runs = published(name, "runs")
    theirs = world // runs["model.parallelism.context_parallel_shard_degree"] * runs["trainer.grad_accum_iter"]
    plan = planned(name, base, world)
    assert plan.degrees.data * plan.config.trainer.grad_accum_iter == theirs


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recipe_starts_on_one_process_and_on_eight(name: str, base: Path) -> None:
    for world in WORLDS:
        degrees = planned(name, base, world).degrees
        assert (degrees.shard, degrees.replicate, degrees.context) == (world, 1, 1)


def test_super_refuses_a_base_that_lacks_more_than_what_it_skips(tmp_path: Path) -> None:
    weights = (
        write_generator(tmp_path / "published", MODEL_SIZES["tiny"]) / "transformer/diffusion_pytorch_model.safetensors"
    )
    kept = {key: value for key, value in load_file(weights).items() if not key.startswith("proj_in.")}
    save_file(kept, weights)
    cosmos("convert", str(tmp_path / "published"), "-o", str(tmp_path / "base"))
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "1", "-o", str(tmp_path / "data"))
    place = {"DATASET_PATH": str(tmp_path / "data"), "BASE_CHECKPOINT_PATH": str(tmp_path / "base")}
    size = ("model.tier=tiny", "model.text_tokenizer.type=words", "model.tokenizer.type=block_dct")
    data = ('dataloader_train.dataset.resolution="64"', "dataloader_train.dataset.min_window_frames=17")
    command = ("run", "vision_sft_super", "--output-root", str(tmp_path / "runs"), *size, *data)
    said = cosmos(*command, env=place, code=2).stderr
    assert "net.vae2llm.weight" in said
    assert "lora_" not in said
    assert not list((tmp_path / "runs").rglob("iter_0*"))


@pytest.mark.parametrize(("name", "origin"), PACKED.items())
def test_a_packed_recipe_scales_its_rate_by_the_square_root_of_its_samples(name: str, origin: str) -> None:
    packed, single = (resolve(one, plugins=PLUGINS).config for one in (name, origin))
    samples = [
        config.dataloader_train.max_samples_per_batch * config.trainer.grad_accum_iter for config in (packed, single)
    ]
    assert samples[0] > samples[1]
    assert packed.optimizer.lr == pytest.approx(single.optimizer.lr * math.sqrt(samples[0] / samples[1]))
    text = next(recipe.path for recipe in list_recipes() if recipe.name == name).read_text()
    assert f"{single.optimizer.lr:.0e}".replace("e-0", "e-") + " * sqrt(" in text
    assert "square root" in tomllib.loads(text)["summary"]
    assert packed.job.name == name


def test_show_says_what_is_run_otherwise_and_stays_a_recipe(tmp_path: Path) -> None:
    shown = cosmos("recipes", "show", "vision_sft_super").stdout
    assert "#   model.parallelism.context_parallel_shard_degree = 2  # here 1\n" in shown
    assert "#   checkpoint.strict_resume = false  # here true\n" in shown
    tomllib.loads(shown)
    as_theirs = ("model.parallelism.context_parallel_shard_degree=2", "checkpoint.strict_resume=false")
    assert (
        "context_parallel_shard_degree = 2  # here"
        not in cosmos("recipes", "show", "vision_sft_super", *as_theirs).stdout
    )
    assert "published" not in cosmos("recipes", "show", "hello").stdout
    assert "job" in json.loads(cosmos("recipes", "show", "llava_ov", "--json").stdout)
    assert "# here -1" in cosmos("recipes", "show", "llava_ov", "--origins").stdout


def test_a_recipe_that_extends_a_published_one_claims_nothing_of_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "vision_sft_super"\n[job]\nname = "mine"\n')
    assert "published" not in cosmos("recipes", "show", str(mine)).stdout
    mine.write_text('published = 3\nextends = "hello"\n')
    said = cosmos("recipes", "check", str(mine), code=2).stderr
    assert "mine.toml:1" in said
    assert "expected a table" in said
