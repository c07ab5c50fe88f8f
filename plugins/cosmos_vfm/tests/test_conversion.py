"""Published layout -> base -> run -> export -> diffusers, on real files and through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import Cosmos3OmniPipeline, Cosmos3OmniTransformer
from safetensors.torch import load_file, save_file

from cosmos_core.checkpoint import DcpWriter, stored_keys, stored_tensors
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.train.load_for_eval import load_for_eval
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.checkpoints.diffusers_config import matching_size, network_config_of, to_diffusers_config
from cosmos_vfm.checkpoints.names import from_diffusers, to_diffusers
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from tests.command import cosmos
from tests.tiny_generator import write_generator

TINY = MODEL_SIZES["tiny"]


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
    assert "model size: tiny" in printed
    assert "components: scheduler, text_tokenizer" in printed
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_base_has_the_reference_names_and_every_tensor(base: Path) -> None:
    with torch.device("meta"):
        names = {f"net.{name}" for name, _ in Cosmos3Network(TINY).named_parameters()}
    assert stored_keys(base / "model") == names
    assert {dtype for _, dtype in stored_tensors(base / "model").values()} == {torch.bfloat16}


def test_a_round_trip_is_bit_exact_and_diffusers_loads_it(base: Path, published: Path, tmp_path: Path) -> None:
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
    rounded = {name: value.to(torch.bfloat16) for name, value in loaded.state_dict().items()}
    assert same(rounded, oracle().state_dict())


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
def test_a_trained_generator_exports_the_selected_weights(run_dir: Path, tmp_path: Path, kind: str) -> None:
    cosmos("export", str(run_dir), "-o", str(tmp_path / "out"), "--weights", kind, "--verify")
    exported = weights(tmp_path / "out/transformer")
    _, model = load_for_eval(run_dir, plugins=PluginManager.discover(), weights=kind)
    expected = {to_diffusers(name): value.detach() for name, value in model.state_dict().items()}
    assert same(exported, expected)
    before = oracle().state_dict()
    assert torch.equal(exported["layers.0.self_attn.to_q.weight"], before["layers.0.self_attn.to_q.weight"].float())
    assert not torch.equal(exported["proj_out.weight"], before["proj_out.weight"].float())
    loaded = Cosmos3OmniTransformer.from_pretrained(tmp_path / "out/transformer")
    assert loaded.config.hidden_size == TINY.hidden


def test_an_iteration_exports_in_the_given_dtype(run_dir: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("start", ["another run", "the base"])
def test_a_run_on_the_model_folder_of_another_run_or_of_a_base_exports_with_the_base(
    run_dir: Path, base: Path, published: Path, tmp_path: Path, start: str
) -> None:
    steps = ("trainer.max_iter=2", "scheduler.cycle_lengths=[2]", "scheduler.warm_up_steps=[1]")
    quiet = ("trainer.run_validation=false", "model.init=pretrained", "dataloader_train.max_samples_per_batch=4")
    warm = {"another run": run_dir / "checkpoints/iter_000000004", "the base": base}[start] / "model"
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


def test_an_unknown_layout_is_rejected_with_the_searched_files(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other/model.safetensors")
    error = cosmos("convert", str(tmp_path / "other"), "-o", str(tmp_path / "out"), code=2).stderr
    assert "no plugin converts 'hf' to 'dcp'" in error
    assert "looks for a generation tower" in error
    assert "transformer/diffusion_pytorch_model.safetensors" in error
    with pytest.raises(UserError, match="nothing was converted") as refused:
        to_dcp(tmp_path / "other", tmp_path / "out")
    assert "transformer/diffusion_pytorch_model.safetensors" in refused.value.problems[0].message
    error = cosmos("convert", str(tmp_path), "-o", str(tmp_path / "out"), code=2).stderr
    assert "no checkpoint that an installed plugin knows" in error
    assert "looks for a generation tower" in error
    assert "did you mean 'Cosmos3-Nano'?" in cosmos("convert", "Cosmos3-Nanoo", "-o", "x", code=2).stderr


def test_an_index_may_not_point_outside_its_folder(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "evil")
    index = tmp_path / "evil/transformer/diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["embed_tokens.weight"] = "../../secret.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="outside its folder"):
        to_dcp(tmp_path / "evil", tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "{}", "{"])
def test_a_damaged_index_of_shards_is_one_clear_error(published: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(published, tmp_path / "damaged")
    index = tmp_path / "damaged/transformer/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(UserError, match="index of weights is damaged") as refused:
        to_dcp(tmp_path / "damaged", tmp_path / "out")
    assert refused.value.problems[0].file == str(index)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {"a": "transformer/a.safetensors"}}'])
def test_an_index_at_the_root_is_rewritten_or_left_out_of_a_bare_export(
    published: Path, tmp_path: Path, content: str
) -> None:
    shutil.copytree(published, tmp_path / "copy")
    (tmp_path / "copy/model.safetensors.index.json").write_text(content)
    to_dcp(tmp_path / "copy", tmp_path / "base")
    export = ("export", str(tmp_path / "base"), "--task", "vfm", "-o")
    cosmos(*export, str(tmp_path / "whole"))
    places = json.loads((tmp_path / "whole/model.safetensors.index.json").read_text())["weight_map"]
    assert set(places) == set(oracle().state_dict())
    assert all((tmp_path / "whole" / file).is_file() for file in places.values())
    cosmos(*export, str(tmp_path / "bare"), "--format", "hf")
    to_dcp(tmp_path / "bare", tmp_path / "again")
    assert stored_keys(tmp_path / "again/model") == stored_keys(tmp_path / "base/model")


def test_a_data_file_of_another_source_is_deleted_before_the_new_one_has_an_index(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, torch.Tensor]]:
        yield "net.a", torch.zeros(2)
        raise KeyboardInterrupt

    writer = DcpWriter(tmp_path)
    writer.write(0, [("net.a", torch.ones(3))], of="first")
    assert writer.has(0, "first")
    with pytest.raises(KeyboardInterrupt):
        writer.write(0, broken(), of="second")
    assert not writer.has(0, "first")
    assert not writer.has(0, "second")


def test_existing_folders_are_never_overwritten(published: Path, base: Path, tmp_path: Path) -> None:
    assert "exists already" in cosmos("convert", str(published), "-o", str(base), code=2).stderr
    assert "exists already" in cosmos("export", str(base), "-o", str(tmp_path), "--task", "vfm", code=2).stderr


def test_tensors_of_another_model_family_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "base/model").mkdir(parents=True)
    writer = DcpWriter(tmp_path / "base/model")
    writer.write(0, [("net.model.visual.bias", torch.zeros(2))], of="a reasoner")
    writer.finish(1)
    for more in ((), ("--format", "hf")):
        error = cosmos("export", str(tmp_path / "base"), "-o", str(tmp_path / "out"), *more, code=2).stderr
        assert "holds model.visual.bias, which no generator has" in error
        assert not (tmp_path / "out").exists()


def test_the_released_model_sizes_are_recognised() -> None:
    for name, network in MODEL_SIZES.items():
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in Cosmos3Network(network).named_parameters()}
        assert matching_size(shapes) == name
        assert to_diffusers_config(network_config_of(shapes)) == to_diffusers_config(network)
    shapes["language_model.model.embed_tokens.weight"] = torch.Size([7, network.hidden])
    assert matching_size(shapes) is None


def test_the_catalogue_lists_the_released_checkpoints() -> None:
    printed = cosmos("checkpoints", "list").stdout
    for name in ("Cosmos3-Edge", "Cosmos3-Nano", "Cosmos3-Super", "Cosmos3-Super-Image2Video"):
        assert f"nvidia/{name}" in printed
    error = cosmos("checkpoints", "fetch", "Cosmos3-Nano", env={"HF_HUB_OFFLINE": "1"}, code=2).stderr
    assert "nvidia/Cosmos3-Nano@main" in error
    assert "Traceback" not in error


def test_an_unwritable_output_is_one_clear_error(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (("export", str(base), "--task", "vfm"), ("convert", str(base.parent))):
        error = cosmos(*arguments, "-o", str(tmp_path / "file/out"), code=2).stderr
        assert "Traceback" not in error


def headed(network: NetworkConfig) -> Cosmos3OmniTransformer:
    """With the action and sound heads that the released ones have and fine-tuning does not build."""
    torch.manual_seed(3)
    config = {key: value for key, value in to_diffusers_config(network).items() if not key.startswith("_")}
    heads = {"action_gen": True, "action_dim": 6, "sound_gen": True, "sound_dim": 10}
    return Cosmos3OmniTransformer(**config, **heads).to(torch.bfloat16)


def complete(folder: Path) -> Cosmos3OmniTransformer:
    """Loaded by diffusers without a missing or an unexpected tensor."""
    loaded, report = Cosmos3OmniTransformer.from_pretrained(
        folder, output_loading_info=True, torch_dtype=torch.bfloat16
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return loaded


def test_heads_that_a_run_does_not_build_come_back_from_its_base(run_dir: Path, tmp_path: Path) -> None:
    published = headed(TINY)
    published.save_pretrained(tmp_path / "published/transformer")
    cosmos("convert", str(tmp_path / "published"), "-o", str(tmp_path / "base"))
    steps = ("trainer.max_iter=1", "scheduler.cycle_lengths=[2]", "scheduler.warm_up_steps=[1]")
    quiet = ("trainer.run_validation=false", "model.init=pretrained", "dataloader_train.max_samples_per_batch=4")
    cosmos(
        *("run", "vision_sft_demo", "--output-root", str(tmp_path), *steps, *quiet),
        f"checkpoint.load_path={tmp_path / 'base'}",
        'checkpoint.keys_to_skip_loading=["net_ema."]',
        env={"DATASET_PATH": str(run_dir.parents[2] / "data")},
    )
    arguments = ("export", str(tmp_path / "cosmos3/sft/vision_sft_demo"), "--dtype", "bfloat16", "--verify")
    printed = cosmos(*arguments, "-o", str(tmp_path / "out")).stdout
    assert "of the base's other heads" in printed
    exported, before = complete(tmp_path / "out/transformer").state_dict(), published.state_dict()
    other = [name for name in before if name.startswith(("action_", "audio_"))]
    assert len(other) >= 9
    assert all(torch.equal(exported[name].float(), before[name].float()) for name in other)
    shutil.rmtree(tmp_path / "base")
    cosmos(*arguments, "-o", str(tmp_path / "without"))
    config = json.loads((tmp_path / "without/transformer/config.json").read_text())
    assert (config["action_gen"], config["sound_gen"]) == (False, False)
    complete(tmp_path / "without/transformer")


def test_adapters_trained_with_other_weights_are_merged(base: Path, run_dir: Path, tmp_path: Path) -> None:
    steps = ("trainer.max_iter=3", "scheduler.cycle_lengths=[3]", "scheduler.warm_up_steps=[1]", "model.lora_rank=4")
    quiet = ("trainer.run_validation=false", "model.init=pretrained", "dataloader_train.max_samples_per_batch=4")
    cosmos(
        *("run", "vision_sft_demo", "--output-root", str(tmp_path), *steps, *quiet, "model.lora_enabled=true"),
        *('optimizer.keys_to_select=["lora_", "llm2vae"]', "model.ema.enabled=false", "model.lora_alpha=12"),
        *(
            f"checkpoint.load_path={base}",
            'checkpoint.keys_to_skip_loading=["lora_"]',
            "checkpoint.strict_resume=false",
        ),
        env={"DATASET_PATH": str(run_dir.parents[2] / "data")},
    )
    run = tmp_path / "cosmos3/sft/vision_sft_demo"
    cosmos("export", str(run), "-o", str(tmp_path / "out"), "--verify")
    complete(tmp_path / "out/transformer")
    exported = weights(tmp_path / "out/transformer")
    _, model = load_for_eval(run, plugins=PluginManager.discover())
    layer = model.get_submodule("language_model.model.layers.0.self_attn.q_proj_moe_gen")
    assert layer.lora_B.weight.any()
    folded = layer.weight + 3.0 * layer.lora_B.weight @ layer.lora_A.weight
    torch.testing.assert_close(exported["layers.0.self_attn.add_q_proj.weight"], folded.detach(), rtol=1e-6, atol=1e-7)
    assert "together with other weights" in cosmos("export", str(run), "-o", "x", "--adapter", code=2).stderr
    checkpoint = tmp_path / "moved/iter_000000003"
    shutil.copytree(run / "checkpoints/iter_000000003", checkpoint)
    assert "rank and alpha" in cosmos("export", str(checkpoint), "-o", "x", "--task", "vfm", code=2).stderr


@pytest.mark.parametrize("prefix", ["net.", "model.net."])
def test_a_bare_export_gets_a_configuration_from_its_tensors(tmp_path: Path, prefix: str) -> None:
    """config.json of cosmos-framework has sizes under other keys, so it is not one of diffusers."""
    bare = {prefix + from_diffusers(name): value.clone() for name, value in oracle().state_dict().items()}
    (tmp_path / "bare").mkdir()
    save_file(bare, tmp_path / "bare/model.safetensors")
    (tmp_path / "bare/config.json").write_text('{"model_type": "cosmos3_omni", "model": {"tier": "8B"}}')
    cosmos("convert", str(tmp_path / "bare"), "-o", str(tmp_path / "base"))
    cosmos("export", str(tmp_path / "base"), "-o", str(tmp_path / "out"), "--task", "vfm")
    restored = {
        name: value.to(torch.bfloat16) for name, value in complete(tmp_path / "out/transformer").state_dict().items()
    }
    assert same(restored, oracle().state_dict())


def test_an_export_with_all_components_is_a_pipeline_even_if_the_base_had_no_index(tmp_path: Path) -> None:
    source = write_generator(tmp_path / "published", TINY)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (source / name).unlink()
    (source / "scheduler").rmdir()
    cosmos("convert", str(source), "-o", str(tmp_path / "base"))
    cosmos("export", str(tmp_path / "base"), "-o", str(tmp_path / "out"), "--task", "vfm")
    pipeline = Cosmos3OmniPipeline.from_pretrained(tmp_path / "out", enable_safety_checker=False)
    assert pipeline.config.use_native_flow_schedule
    assert not pipeline.config.default_use_system_prompt
    assert pipeline.scheduler.config.flow_shift == 10.0
    frames = pipeline("a ball", num_frames=5, height=32, width=32, num_inference_steps=1, output_type="np").video
    assert frames.shape[-4:] == (5, 32, 32, 3)
