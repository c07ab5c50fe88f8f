"""Every recipe's network, started in poisoned memory from bases that lack one group of tensors after the other."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint import FileSystemWriter

from cosmos_core.checkpoint import DcpWeights
from cosmos_core.config import RunConfig
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.errors import UserError
from cosmos_core.optim import Ema, is_lora
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train.build import build_family, materialise
from cosmos_core.train.weights import initialise_rest, load_base, log_differences
from cosmos_vfm.sizes import MODEL_SIZES
from tests.benchmarks.running import fresh_model
from tests.command import cosmos, metric_records
from tests.tiny_generator import write_generator
from tests.tiny_reasoner import write_reasoner

PLUGINS = PluginManager.discover()
MODEL_SIZE = {"vision_sft_nano": "tiny", "vision_sft_edge": "tiny_edge", "vision_sft_super": "tiny"}
REASONERS = ("llava_ov", "videophy2_sft_nano", "videophy2_sft_super")
GROUPS = {
    "vfm": ("vae2llm", "llm2vae", "time_embedder", "moe_gen", "embed_tokens", "lm_head", "mlp.", "k_norm", "net_ema."),
    "vlm": ("visual.patch_embed", "visual.pos_embed", "visual.blocks", "visual.merger", "deepstack", "language_model"),
}


@pytest.fixture
def poisoned() -> Iterator[None]:
    """New memory holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


class Said(logging.Handler):
    """Every line that was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


@pytest.fixture
def said() -> Iterator[Said]:
    handler, logger = Said(), logging.getLogger("cosmos_core")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bases")
    for model_size in set(MODEL_SIZE.values()):
        write_generator(root / f"published_{model_size}", MODEL_SIZES[model_size])
        cosmos("convert", str(root / f"published_{model_size}"), "-o", str(root / model_size))
    write_reasoner(root / "reasoner")
    return root


def config_of(recipe: str, place: Path, *more: str) -> RunConfig:
    """The recipe as it is, on the tiny network of its family."""
    if recipe in MODEL_SIZE:
        published = place / f"published_{MODEL_SIZE[recipe]}"
        own = (
            f"model.tier={MODEL_SIZE[recipe]}",
            f"model.tokenizer.vae_path={published / 'vae'}",
            f"model.text_tokenizer.path={published / 'text_tokenizer'}",
            f"checkpoint.load_path={place / MODEL_SIZE[recipe]}",
        )
    else:
        names = ("model_name", "safetensors_path")
        own = ("model.image_min_pixels=1024", *(f"model.backbone.{name}={place / 'reasoner'}" for name in names))
    config = resolve(recipe, (*own, "model.precision=float32", *more), plugins=PLUGINS).config
    assert isinstance(config, RunConfig)
    return config


def started(config: RunConfig, base: Path | None) -> tuple[nn.Module, Ema, Any, list[str]]:
    """The network as a run starts with it: its average, what was loaded, what was filled otherwise."""
    mesh, rng = local_mesh(), CounterRng(config.trainer.seed)
    family = build_family(config, PLUGINS, mesh.device)
    model = materialise(config, family, mesh)
    ema = Ema(model, config.model.ema)
    assert base is not None
    section = config.checkpoint
    loaded = load_base(base, model, ema, mesh, skip=section.keys_to_skip_loading, strict=section.strict_resume)
    fresh = initialise_rest(model, family, rng, loaded.tensors)
    ema.restart(loaded.averages)
    return model, ema, loaded, fresh


def fresh_of(config: RunConfig) -> nn.Module:
    mesh = local_mesh()
    return fresh_model(config, build_family(config, PLUGINS, mesh.device), mesh, CounterRng(config.trainer.seed))


@cache
def drawn_of(recipe: str, place: Path) -> dict[str, torch.Tensor]:
    """State of the generator that starts from random numbers alone; the same for every group that a base may lack."""
    return fresh_of(config_of(recipe, place, "model.init=random")).state_dict()


def without(group: str, base: Path, target: Path, extra: dict[str, torch.Tensor] | None = None) -> Path:
    """A base without the tensors whose name contains `group`."""
    weights = DcpWeights(base / "model", "live")
    kept = {
        f"net.{name}": value for name, value in weights.read(list(weights.infos)).items() if group not in f"net.{name}"
    }
    dcp.save({**kept, **(extra or {})}, storage_writer=FileSystemWriter(target / "model"), no_dist=True)
    return target


def assert_whole(model: nn.Module, ema: Ema) -> None:
    everything = {**dict(model.named_parameters()), **dict(model.named_buffers()), **ema.shadows}
    assert not [name for name, value in everything.items() if value.isnan().any()]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("recipe", MODEL_SIZE)
@pytest.mark.parametrize("group", GROUPS["vfm"])
def test_a_generators_base_that_lacks_tensors_is_refused_or_what_it_lacks_starts_fresh(
    recipe: str, group: str, place: Path, tmp_path: Path, said: Said
) -> None:
    config = config_of(recipe, place, "checkpoint.strict_resume=true")
    base, drawn = without(group, place / MODEL_SIZE[recipe], tmp_path), drawn_of(recipe, place)
    missing = {name for name in drawn if group in f"net.{name}" and not is_lora(name)}
    if missing:
        with pytest.raises(UserError) as refused:
            started(config, base)
        (problem,) = refused.value.problems
        assert f"net.{min(missing)}" in problem.message
        assert "missing" in problem.message
    for more in ("checkpoint.strict_resume=false", f'checkpoint.keys_to_skip_loading=["lora_", "{group}"]'):
        config = config_of(recipe, place, more)
        model, ema, loaded, fresh = started(config, base)
        assert_whole(model, ema)
        assert {name for name in fresh if not is_lora(name)} == missing
        parameters = dict(model.named_parameters())
        assert all(torch.equal(parameters[name], drawn[name]) for name in fresh)
        log_differences(config.model, loaded, fresh, [])
        assert not missing or "fresh values" in said.text
        assert all(name.rpartition(".")[2] in said.text for name in missing)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("recipe", REASONERS)
@pytest.mark.parametrize("group", GROUPS["vlm"])
def test_a_backbone_that_lacks_tensors_is_refused(recipe: str, group: str, place: Path, tmp_path: Path) -> None:
    tensors = load_file(place / "reasoner/model.safetensors")
    for file in (place / "reasoner").iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    kept = {name: value for name, value in tensors.items() if group not in name}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors")
    config = config_of(recipe, place, f"model.backbone.safetensors_path={tmp_path}")
    with pytest.raises(UserError) as refused:
        fresh_of(config)
    assert "missing" in refused.value.problems[-1].message


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("group", GROUPS["vlm"])
def test_a_reasoners_warm_start_takes_what_its_base_lacks_from_the_backbone(
    group: str, place: Path, tmp_path: Path
) -> None:
    config = config_of("llava_ov", place)
    whole = fresh_of(config).state_dict()
    shifted = {f"net.{name}": value + 1 for name, value in whole.items() if group not in name}
    dcp.save(shifted, storage_writer=FileSystemWriter(tmp_path / "model"), no_dist=True)
    config = config_of("llava_ov", place, f'checkpoint.keys_to_skip_loading=["{group}"]')
    model, ema, _, fresh = started(config, tmp_path)
    assert_whole(model, ema)
    assert fresh
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole[name] + (name not in fresh))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("recipe", ["hello", "vision_sft_demo", "videophy2_demo"])
def test_a_recipe_from_scratch_fills_everything(recipe: str) -> None:
    config = resolve(recipe, (), plugins=PLUGINS).config
    model = fresh_of(config)
    assert_whole(model, Ema(model, config.model.ema))


@pytest.mark.parametrize(
    ("name", "strict", "refused"),
    [
        ("net.language_model.model.layers.9.mlp.up_proj.weight", "true", True),
        ("net.language_model.model.layers.9.mlp.up_proj.weight", "false", False),
        ("net.action2llm.fc.weight", "true", False),
        ("net.language_model.model.layers.0.self_attn.q_proj_moe_gen.lora_A.weight", "false", True),
        ("net_ema.vae2llm.weight", "true", False),
    ],
)
def test_what_a_base_has_beside_the_model_is_refused_or_named(
    name: str, strict: str, refused: bool, place: Path, tmp_path: Path, said: Said
) -> None:
    config = config_of("vision_sft_nano", place, f"checkpoint.strict_resume={strict}")
    base = without("no such name", place / "tiny", tmp_path, {name: torch.ones(2, 2)})
    if refused:
        with pytest.raises(UserError, match="does not fit") as error:
            started(config, base)
        assert name in error.value.problems[0].message
        return
    _, _, loaded, fresh = started(config, base)
    assert fresh == []
    log_differences(config.model, loaded, fresh, [])
    assert name.replace(".9.", ".*.") in said.text


def test_a_base_of_which_nothing_fits_is_refused_however_lenient_the_recipe(place: Path, tmp_path: Path) -> None:
    config = config_of("vision_sft_nano", place, "checkpoint.strict_resume=false")
    with pytest.raises(UserError, match="does not fit"):
        started(config, without("net.", place / "tiny", tmp_path, {"model.weight": torch.ones(1)}))


@pytest.mark.parametrize("skipped", ["moe_gen", "vae2llm", "time_embedder"])
def test_a_warm_start_without_some_tensors_trains_as_a_random_start_of_them_would(skipped: str, tmp_path: Path) -> None:
    short = (
        "trainer.run_validation=false",
        "dataloader_train.max_samples_per_batch=4",
        "trainer.max_iter=2",
        "scheduler.warm_up_steps=[1]",
    )
    data = {"DATASET_PATH": str(tmp_path / "data")}
    cosmos("data", "prepare", "bridge", "--synthetic", "16", "-o", str(tmp_path / "data"))
    run = ("run", "vision_sft_demo", "--output-root", str(tmp_path), *short)
    cosmos(*run, "job.name=first", env=data)
    base = tmp_path / "cosmos3/sft/first/checkpoints/iter_000000002/model"
    skip = json.dumps(["net_ema.", skipped])
    done = cosmos(
        *run,
        "job.name=warm",
        "model.init=pretrained",
        f"checkpoint.load_path={base}",
        f"checkpoint.keys_to_skip_loading={skip}",
        env=data,
    )
    assert "not loaded from the checkpoint, filled with fresh values" in done.stderr
    assert skipped in done.stderr
    found = [record["loss"] for record in metric_records(tmp_path / "cosmos3/sft/warm")]
    assert len(found) == 2
    assert all(0 < loss < 10 for loss in found)


@pytest.mark.parametrize("skipped", ["net", "net.", "."])
def test_a_warm_start_that_leaves_out_every_tensor_is_refused(skipped: str, place: Path) -> None:
    config = config_of("vision_sft_nano", place, f'checkpoint.keys_to_skip_loading=["{skipped}"]')
    with pytest.raises(UserError, match="nothing of the checkpoint would be used") as error:
        started(config, place / "tiny")
    assert error.value.problems[0].key == "checkpoint.keys_to_skip_loading"
