"""Low-rank adapters: trained from a converted base, resumed, merged, and loaded by diffusers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import Cosmos3OmniTransformer
from safetensors.torch import load_file

from cosmos_core.checkpoint import stored_keys
from cosmos_core.config import AdaptedModelConfig
from cosmos_core.distributed import CounterRng
from cosmos_core.errors import UserError
from cosmos_core.optim import initialise_lora, inject_lora, select_trainable
from cosmos_core.plan.manifest import verify
from cosmos_core.plugin import PluginManager
from cosmos_core.train.load_for_eval import load_for_eval
from cosmos_vfm.checkpoints.diffusers_config import to_diffusers_config
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos
from tests.fixtures.reading import tensors

TINY = MODEL_SIZES["tiny"]
LORA = (
    "model.lora_enabled=true",
    'optimizer.keys_to_select=["lora_"]',
    "model.ema.enabled=false",
    "model.init=pretrained",
    "optimizer.lr=1e-2",
    'checkpoint.keys_to_skip_loading=["net_ema.", "lora_"]',
    "checkpoint.strict_resume=false",
)
SHORT = (
    "trainer.run_validation=false",
    "trainer.max_iter=4",
    "checkpoint.save_iter=2",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_samples_per_batch=4",
)


def oracle() -> Cosmos3OmniTransformer:
    torch.manual_seed(0)
    config = {key: value for key, value in to_diffusers_config(TINY).items() if not key.startswith("_")}
    return Cosmos3OmniTransformer(**config)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a base converted from a published folder, and a finished adapter run from it."""
    root = tmp_path_factory.mktemp("lora")
    cosmos("data", "prepare", "bridge", "--synthetic", "8", "--val", "2", "-o", str(root / "data"))
    oracle().save_pretrained(root / "published/transformer")
    cosmos("convert", str(root / "published"), "-o", str(root / "base"))
    train(root, "whole")
    return root


@pytest.fixture(scope="module")
def exported(root: Path) -> Path:
    """Where the run is exported as ``merged`` and as ``adapter``."""
    folder = root / "exported"
    cosmos("export", str(run_dir(root, "whole")), "-o", str(folder / "adapter"), "--adapter")
    printed = cosmos("export", str(run_dir(root, "whole")), "-o", str(folder / "merged"), "--verify").stdout
    assert "with the adapters merged" in printed
    return folder


def train(root: Path, name: str, *more: str, code: int = 0) -> str:
    done = cosmos(
        *("run", "vision_sft_demo", "--output-root", str(root), f"job.name={name}", *LORA, *SHORT),
        f"checkpoint.load_path={root / 'base'}",
        *more,
        env={"DATASET_PATH": str(root / "data")},
        code=code,
    )
    return done.stderr


def run_dir(root: Path, name: str) -> Path:
    return root / "cosmos3/sft" / name


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def small_pass(model: Cosmos3OmniTransformer) -> torch.Tensor:
    """Velocity of a fixed small clip."""
    generator = torch.Generator().manual_seed(1)
    text, tokens = 5, 2 * 2 * 2
    with torch.no_grad():
        return model(
            input_ids=torch.arange(10, 10 + text),
            text_indexes=torch.arange(text),
            und_len=text,
            sequence_length=text + tokens,
            position_ids=torch.arange(text + tokens, dtype=torch.float32).expand(3, -1),
            vision_tokens=[torch.randn(1, 48, 2, 4, 4, generator=generator)],
            vision_token_shapes=[(2, 2, 2)],
            vision_sequence_indexes=torch.arange(text, text + tokens),
            vision_mse_loss_indexes=torch.arange(text, text + tokens),
            vision_timesteps=torch.full((tokens,), 500.0),
            vision_noisy_frame_indexes=[torch.arange(2)],
        ).sample[0]


def test_a_checkpoint_holds_the_adapters_alone_and_names_its_base(root: Path) -> None:
    checkpoint = run_dir(root, "whole") / "checkpoints/iter_000000004"
    keys = stored_keys(checkpoint / "model")
    assert len(keys) == TINY.layers * 4 * 2
    assert all("_moe_gen.lora_" in key and key.startswith("net.") for key in keys)
    record = json.loads((checkpoint / "frozen_base.json").read_text())
    assert (record["folder"], record["rank"], record["alpha"]) == (str(root / "base/model"), 16, 32)


def test_a_resumed_run_repeats_the_uninterrupted_one(root: Path) -> None:
    train(root, "parts", "trainer.max_iter=2")
    assert "resume" in train(root, "parts")
    assert losses(run_dir(root, "parts"))[-2:] == losses(run_dir(root, "whole"))[-2:]


def test_merged_weights_give_the_output_of_the_adapted_ones(exported: Path) -> None:
    merged = load_file(exported / "merged/transformer/diffusion_pytorch_model.safetensors")
    before = oracle().state_dict()
    changed = {name for name, value in merged.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "self_attn.add_" in name or "self_attn.to_add_out" in name}
    adapted = oracle()
    adapted.load_lora_adapter(exported / "adapter", weight_name="pytorch_lora_weights.safetensors")
    folded = Cosmos3OmniTransformer.from_pretrained(exported / "merged/transformer")
    plain, through_adapter, through_merge = (small_pass(model) for model in (oracle(), adapted, folded))
    assert not torch.allclose(plain, through_adapter, rtol=1e-3)
    torch.testing.assert_close(through_adapter, through_merge, rtol=1e-5, atol=1e-5)


def test_a_run_that_saves_its_base_too_is_the_same_run(root: Path, exported: Path, tmp_path: Path) -> None:
    """Losses, exports and adapters bit for bit; and the checkpoint of adapters alone is packed to the same tensors."""
    train(root, "full", "checkpoint.include_frozen=true")
    alone, full = (run_dir(root, name) for name in ("whole", "full"))
    assert losses(alone) == losses(full)
    cosmos("export", str(full), "-o", str(tmp_path / "merged"))
    cosmos("export", str(full), "-o", str(tmp_path / "adapter"), "--adapter")
    for name in ("merged/transformer/diffusion_pytorch_model", "adapter/pytorch_lora_weights"):
        file = f"{name}.safetensors"
        assert (tmp_path / file).read_bytes() == (exported / file).read_bytes()
    cosmos("checkpoints", "pack", str(alone), "--step", "2")
    packed, saved = (folder / "iter_000000002" for folder in (alone / "packed", full / "checkpoints"))
    assert verify(packed) == []
    found, expected = (tensors(folder / "model") for folder in (packed, saved))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_adapters_are_exported_in_the_given_dtype_and_verified(root: Path, tmp_path: Path) -> None:
    more = ("--adapter", "--dtype", "bfloat16", "--verify")
    printed = cosmos("export", str(run_dir(root, "whole")), "-o", str(tmp_path / "adapter"), *more).stdout
    assert "verified: yes" in printed
    adapters = load_file(tmp_path / "adapter/pytorch_lora_weights.safetensors")
    assert {value.dtype for value in adapters.values()} == {torch.bfloat16}


def test_adapters_that_training_left_at_zero_are_not_exported(root: Path, tmp_path: Path) -> None:
    train(root, "zero", "optimizer.lr=0", code=2)
    for how in ("--adapter", "--merge"):
        stderr = cosmos("export", str(run_dir(root, "zero")), "-o", str(tmp_path / "out"), how, code=2).stderr
        assert "the adapters are all zero" in stderr
    assert not list(tmp_path.iterdir())


def test_diffusers_loads_the_weights_of_the_run(root: Path, exported: Path) -> None:
    merged = load_file(exported / "merged/transformer/diffusion_pytorch_model.safetensors")
    _, model = load_for_eval(run_dir(root, "whole"), plugins=PluginManager.discover())
    modules = dict(model.named_modules())
    for name, value in model.named_parameters():
        if ".lora_" in name:
            continue
        layer = modules[name.rpartition(".")[0]]
        expected = value
        if hasattr(layer, "lora_A"):
            expected = value + 2.0 * layer.lora_B.weight @ layer.lora_A.weight
        torch.testing.assert_close(merged[to_diffusers(name)], expected.detach(), rtol=1e-6, atol=1e-7)


def test_a_bare_export_has_the_framework_names_and_converts_back(root: Path, tmp_path: Path) -> None:
    cosmos("export", str(run_dir(root, "whole")), "-o", str(tmp_path / "bare"), "--format", "hf")
    names = set(load_file(tmp_path / "bare/model.safetensors"))
    assert names == {f"model.net.{name}" for name, _ in Cosmos3Network(TINY).named_parameters()}
    cosmos("convert", str(tmp_path / "bare"), "-o", str(tmp_path / "again"))
    assert stored_keys(tmp_path / "again/model") == stored_keys(root / "base/model")


def test_a_run_that_changes_no_adapter_is_an_error(root: Path) -> None:
    stderr = train(root, "idle", "optimizer.lr=0", code=2)
    assert "changed no adapter" in stderr
    assert "Traceback" not in stderr


def test_another_base_than_the_trained_one_is_rejected(root: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir(root, "whole"), tmp_path / "run")
    record = tmp_path / "run/checkpoints/iter_000000004/frozen_base.json"
    values = json.loads(record.read_text())
    shutil.copytree(root / "base", tmp_path / "base")
    data = next((tmp_path / "base/model").glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:-200] + bytes(200))
    record.write_text(json.dumps({**values, "folder": str(tmp_path / "base/model")}))
    stderr = cosmos("export", str(tmp_path / "run"), "-o", str(tmp_path / "out"), code=2).stderr
    assert "other weights than the run was trained on" in stderr
    record.write_text(json.dumps({**values, "folder": str(tmp_path / "gone")}))
    stderr = cosmos("export", str(tmp_path / "run"), "-o", str(tmp_path / "out"), code=2).stderr
    assert "no such folder" in stderr
    said = cosmos("checkpoints", "verify", str(tmp_path / "run"), code=2).stdout
    assert f"iter_000000004: its base: no such folder: {tmp_path / 'gone'}" in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_is_reported_with_the_closest_name(root: Path) -> None:
    stderr = train(root, "typo", 'model.lora_target_modules="q_proj_moe_gn"', code=2)
    assert "q_proj_moe_gn" in stderr
    assert "did you mean 'q_proj_moe_gen'" in stderr


def test_fresh_adapters_do_not_change_the_output_and_only_they_train() -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(8, 6))
    model = torch.nn.Sequential(torch.nn.Linear(8, 6))
    model.load_state_dict(plain.state_dict())
    inject_lora(model, AdaptedModelConfig(lora_enabled=True, lora_rank=2, lora_alpha=4, lora_target_modules="0"))
    initialise_lora(model, CounterRng(7), dict(model.named_parameters()))
    select_trainable(model, ["lora_"])
    x = torch.randn(5, 8)
    assert torch.equal(model(x), plain(x))
    first, second = (parameter for name, parameter in model.named_parameters() if "lora_" in name)
    assert first.abs().max() <= 8**-0.5
    with torch.no_grad():
        second.copy_(torch.randn(6, 2))
    torch.testing.assert_close(model(x), plain(x) + 2 * x @ first.T @ second.T)
    assert [name for name, value in model.named_parameters() if value.requires_grad] == [
        "0.lora_A.weight",
        "0.lora_B.weight",
    ]
    with pytest.raises(UserError):
        inject_lora(torch.nn.Sequential(torch.nn.Linear(8, 6)), AdaptedModelConfig(lora_enabled=True))
