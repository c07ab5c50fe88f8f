"""Published layout -> base -> run -> export -> diffusers, on real files and through the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import Cosmos3OmniTransformer
from safetensors.torch import load_file, save_file

from cosmos_core.checkpoint import stored_keys, stored_tensors
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.train.restore import restore
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.checkpoints.describe import matching_tier, to_diffusers_config
from cosmos_vfm.checkpoints.names import from_diffusers, to_diffusers
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.tiers import TIERS
from tests.command import cosmos

TINY = TIERS["tiny"]


def oracle() -> Cosmos3OmniTransformer:
    torch.manual_seed(0)
    config = {key: value for key, value in to_diffusers_config(TINY).items() if not key.startswith("_")}
    return Cosmos3OmniTransformer(**config).to(torch.bfloat16)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in the published layout, in several shards, with a scheduler and a tokenizer beside it."""
    root = tmp_path_factory.mktemp("hub") / "Cosmos3-Tiny"
    oracle().save_pretrained(root / "transformer", max_shard_size="2MB")
    assert len(list((root / "transformer").glob("*.safetensors"))) > 2
    for name in ("scheduler", "text_tokenizer"):
        (root / name).mkdir()
        (root / name / "config.json").write_text(f'{{"of": "{name}"}}')
    (root / "model_index.json").write_text("{}")
    return root


@pytest.fixture(scope="module")
def base(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("base") / "tiny"
    printed = cosmos("convert", str(published), "-o", str(output)).stdout
    assert "tier: tiny" in printed
    assert "components: scheduler, text_tokenizer" in printed
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found.update(load_file(file))
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_base_has_the_reference_names_and_every_tensor(base: Path) -> None:
    with torch.device("meta"):
        names = {f"net.{name}" for name, _ in Cosmos3Network(TINY).named_parameters()}
    assert stored_keys(base / "model") == names
    assert {dtype for _, dtype in stored_tensors(base / "model").values()} == {torch.bfloat16}


def test_there_and_back_is_bit_exact_and_diffusers_loads_it(base: Path, published: Path, tmp_path: Path) -> None:
    printed = cosmos("export", str(base), "-o", str(tmp_path / "out"), "--task", "vfm", "--verify").stdout
    assert "components: scheduler, text_tokenizer" in printed
    assert same(weights(tmp_path / "out/transformer"), weights(published / "transformer"))
    for name in ("scheduler/config.json", "text_tokenizer/config.json", "model_index.json"):
        assert (tmp_path / "out" / name).read_text() == (published / name).read_text()
    loaded, report = Cosmos3OmniTransformer.from_pretrained(
        tmp_path / "out/transformer", output_loading_info=True, torch_dtype=torch.bfloat16
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    kept = {name: value.to(torch.bfloat16) for name, value in loaded.state_dict().items()}
    assert same(kept, oracle().state_dict())


@pytest.fixture(scope="module")
def run_dir(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps from the base: the generation tower trains, the text tower stays."""
    root = tmp_path_factory.mktemp("runs")
    cosmos("data", "prepare", "bridge", "--synthetic", "8", "--val", "2", "-o", str(root / "data"))
    steps = ("trainer.max_iter=4", "scheduler.cycle_lengths=[4]", "scheduler.warm_up_steps=[1]")
    quiet = ("trainer.run_validation=false", "model.init=pretrained", "dataloader_train.max_samples_per_batch=4")
    keys = 'optimizer.keys_to_select=["moe_gen", "time_embedder", "vae2llm", "llm2vae"]'
    done = cosmos(
        *("run", "vision_sft_demo", "--output-root", str(root), *steps, *quiet, keys),
        *(f"checkpoint.load_path={base}", 'checkpoint.keys_to_skip_loading=["net_ema."]'),
        env={"DATASET_PATH": str(root / "data")},
    )
    assert f"warm from {base}" in done.stderr
    return root / "cosmos3/sft/vision_sft_demo"


@pytest.mark.parametrize("kind", ["ema", "live"])
def test_a_trained_generator_exports_the_weights_asked_for(run_dir: Path, tmp_path: Path, kind: str) -> None:
    cosmos("export", str(run_dir), "-o", str(tmp_path / "out"), "--weights", kind, "--verify")
    found = weights(tmp_path / "out/transformer")
    _, model = restore(run_dir, plugins=PluginManager.discover(), weights=kind)
    expected = {to_diffusers(name): value.detach() for name, value in model.state_dict().items()}
    assert same(found, expected)
    before = oracle().state_dict()
    assert torch.equal(found["layers.0.self_attn.to_q.weight"], before["layers.0.self_attn.to_q.weight"].float())
    assert not torch.equal(found["proj_out.weight"], before["proj_out.weight"].float())
    loaded = Cosmos3OmniTransformer.from_pretrained(tmp_path / "out/transformer")
    assert loaded.config.hidden_size == TINY.hidden


def test_an_iteration_exports_in_the_dtype_asked_for(run_dir: Path, tmp_path: Path) -> None:
    source = run_dir / "checkpoints/iter_000000004"
    cosmos("export", str(source), "-o", str(tmp_path / "out"), "--dtype", "bfloat16")
    assert {value.dtype for value in weights(tmp_path / "out/transformer").values()} == {torch.bfloat16}


@pytest.mark.parametrize("prefix", ["net.", "model.net."])
def test_a_bare_export_converts_too(base: Path, tmp_path: Path, prefix: str) -> None:
    bare = {prefix + from_diffusers(name): value.clone() for name, value in oracle().state_dict().items()}
    bare[f"{prefix}language_model.visual.blocks.0.weight"] = torch.zeros(2)
    (tmp_path / "bare").mkdir()
    save_file(bare, tmp_path / "bare/model.safetensors")
    cosmos("convert", str(tmp_path / "bare"), "-o", str(tmp_path / "out"))
    assert stored_keys(tmp_path / "out/model") == stored_keys(base / "model")


def test_an_interrupted_conversion_continues_and_shows_nothing_before(published: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(published, broken)
    last = sorted((broken / "transformer").glob("*.safetensors"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged or not whole") as refused:
        to_dcp(broken, tmp_path / "out")
    assert refused.value.problems[0].file == str(last)
    assert not (tmp_path / "out").exists()
    first = tmp_path / ".out.partial/model/__0_0.distcp"
    stamp = first.stat().st_mtime_ns
    last.write_bytes(whole)
    to_dcp(broken, tmp_path / "out")
    assert (tmp_path / "out/model/__0_0.distcp").stat().st_mtime_ns == stamp
    assert not list((tmp_path / "out/model").glob(".__*"))


def test_shards_of_another_source_are_not_taken_for_those_of_this_one(published: Path, tmp_path: Path) -> None:
    """Two checkpoints of one shape, the first interrupted, to the same place."""
    other = tmp_path / "other"
    torch.manual_seed(1)
    config = {key: value for key, value in to_diffusers_config(TINY).items() if not key.startswith("_")}
    Cosmos3OmniTransformer(**config).to(torch.bfloat16).save_pretrained(other / "transformer", max_shard_size="2MB")
    last = sorted((other / "transformer").glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged or not whole"):
        to_dcp(other, tmp_path / "base")
    assert (tmp_path / ".base.partial/model/__0_0.distcp").is_file()
    to_dcp(published, tmp_path / "base")
    cosmos("export", str(tmp_path / "base"), "-o", str(tmp_path / "out"), "--task", "vfm")
    assert same(weights(tmp_path / "out/transformer"), weights(published / "transformer"))


def test_a_run_that_started_from_another_run_exports_with_their_common_base(
    run_dir: Path, published: Path, tmp_path: Path
) -> None:
    steps = ("trainer.max_iter=2", "scheduler.cycle_lengths=[2]", "scheduler.warm_up_steps=[1]")
    quiet = ("trainer.run_validation=false", "model.init=pretrained", "dataloader_train.max_samples_per_batch=4")
    warm = run_dir / "checkpoints/iter_000000004/model"
    cosmos(
        *("run", "vision_sft_demo", "--output-root", str(tmp_path), *steps, *quiet, f"checkpoint.load_path={warm}"),
        'checkpoint.keys_to_skip_loading=["net_ema."]',
        env={"DATASET_PATH": str(run_dir.parents[2] / "data")},
    )
    printed = cosmos("export", str(tmp_path / "cosmos3/sft/vision_sft_demo"), "-o", str(tmp_path / "out")).stdout
    assert "components: scheduler, text_tokenizer" in printed
    assert (tmp_path / "out/text_tokenizer/config.json").read_bytes() == (
        published / "text_tokenizer/config.json"
    ).read_bytes()


def test_an_unknown_layout_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other/model.safetensors")
    error = cosmos("convert", str(tmp_path / "other"), "-o", str(tmp_path / "out"), code=2).stderr
    assert "no plugin converts 'hf' to 'dcp'" in error
    with pytest.raises(UserError, match="nothing was converted") as refused:
        to_dcp(tmp_path / "other", tmp_path / "out")
    assert "transformer/diffusion_pytorch_model.safetensors.index.json" in refused.value.problems[0].message
    error = cosmos("convert", str(tmp_path), "-o", str(tmp_path / "out"), code=2).stderr
    assert "no checkpoint that an installed plugin knows" in error
    assert "did you mean 'Cosmos3-Nano'?" in cosmos("convert", "Cosmos3-Nanoo", "-o", "x", code=2).stderr


def test_an_index_may_not_point_outside_its_folder(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "evil")
    index = tmp_path / "evil/transformer/diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["embed_tokens.weight"] = "../../secret.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="outside its folder"):
        to_dcp(tmp_path / "evil", tmp_path / "out")


def test_existing_folders_are_never_overwritten(published: Path, base: Path, tmp_path: Path) -> None:
    assert "exists already" in cosmos("convert", str(published), "-o", str(base), code=2).stderr
    assert "exists already" in cosmos("export", str(base), "-o", str(tmp_path), "--task", "vfm", code=2).stderr


def test_the_released_sizes_are_recognised() -> None:
    for name, network in TIERS.items():
        assert matching_tier(to_diffusers_config(network)) == name
    assert matching_tier({"hidden_size": 7}) is None


def test_the_catalogue_lists_the_released_checkpoints() -> None:
    printed = cosmos("checkpoints", "list").stdout
    for name in ("Cosmos3-Edge", "Cosmos3-Nano", "Cosmos3-Super", "Cosmos3-Super-Image2Video"):
        assert f"nvidia/{name}" in printed
    error = cosmos("checkpoints", "fetch", "Cosmos3-Nano", env={"HF_HUB_OFFLINE": "1"}, code=2).stderr
    assert "nvidia/Cosmos3-Nano@main" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Eight shards of 64 MiB take no more than two."""
    peaks = []
    for count in (2, 8):
        root = tmp_path / f"model{count}"
        root.mkdir()
        names = [f"layers.{index}.self_attn.add_q_proj.weight" for index in range(count)]
        for index, name in enumerate(names):
            save_file({name: torch.zeros(4096, 4096)}, root / f"model-{index}.safetensors")
        weight_map = {name: f"model-{index}.safetensors" for index, name in enumerate(names)}
        (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        code = (
            "import resource, sys; from pathlib import Path\n"
            "from cosmos_vfm.checkpoints.convert import to_dcp\n"
            "to_dcp(Path(sys.argv[1]), Path(sys.argv[2]))\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(root), str(tmp_path / f"out{count}")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 40, peaks
