"""Reasoners merged from a generator, trained with adapters, exported: transformers and peft load what we wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from itertools import count
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from cosmos_core.checkpoint import SafetensorsWeights, safetensors, stored_keys
from cosmos_core.checkpoint.pack import pack
from cosmos_core.plugin import PluginManager
from cosmos_core.train.load_for_eval import load_for_eval
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vlm.catalog import PINNED
from cosmos_vlm.checkpoints import merge_onto_tower
from tests.command import cosmos, losses
from tests.fake_hub import serving
from tests.fixtures.reading import tensors
from tests.physics import write_physics
from tests.tiny_generator import write_generator
from tests.tiny_reasoner import write_reasoner

QWEN = "Qwen/Qwen3-VL-2B-Instruct"
MATCHING = NetworkConfig(hidden=32, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=48, vocab=264)
"""A generator whose understanding tower has the tiny reasoner's sizes."""
SMALL = (
    "model.precision=float32",
    "model.backbone.safetensors_path=null",
    "model.parallelism.data_parallel_shard_degree=-1",
    "model.parallelism.data_parallel_replicate_degree=1",
    "model.activation_checkpointing.mode=none",
    "model.video_min_pixels=1024",
    "optimizer.lr=1e-2",
    "trainer.max_iter=4",
    "trainer.grad_accum_iter=1",
    "trainer.run_validation=false",
    "checkpoint.save_iter=2",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_sequence_length=null",
    "dataloader_train.max_samples_per_batch=4",
    "dataloader_train.num_workers=0",
)
LORA = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "model.lora_rank=4", "model.lora_alpha=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reasoner")
    write_reasoner(root / "tiny")
    write_generator(root / "published", MATCHING)
    write_physics(root / "videophysics", train=16, val=4)
    train(root, "full")
    train(root, "lora", *LORA)
    return root


def train(place: Path, name: str, *more: str, **environment: str) -> str:
    backbone = f"model.backbone.model_name={place / 'tiny'}"
    arguments = ("run", "videophy2_sft_nano", f"job.name={name}", "--output-root", str(place), *SMALL, backbone, *more)
    return cosmos(*arguments, env={"VIDEOPHYSICS_ROOT": str(place / "videophysics"), **environment}).stderr


def run_dir(place: Path, name: str) -> Path:
    return place / "cosmos3/vlm_videophy2_sft" / name


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


def loaded(folder: Path) -> Qwen3VLForConditionalGeneration:
    model, report = Qwen3VLForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model


def test_a_trained_reasoner_exports_to_the_same_weights_and_generates(place: Path, tmp_path: Path) -> None:
    cosmos("export", str(run_dir(place, "full")), "-o", str(tmp_path / "out"), "--verify")
    model = loaded(tmp_path / "out")
    _, ours = load_for_eval(run_dir(place, "full"), plugins=PluginManager.discover())
    theirs = dict(model.named_parameters())
    assert all(torch.equal(theirs[name], value) for name, value in ours.named_parameters())
    before = dict(loaded(place / "tiny").named_parameters())
    assert any(not torch.equal(before[name], value) for name, value in theirs.items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("Rate it.", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


def test_an_export_carries_tokenizer_and_processors_over(place: Path, tmp_path: Path) -> None:
    """File by file; the processors say the sizes of the run (SMALL) instead of the backbone's."""
    cosmos("export", str(run_dir(place, "full")), "-o", str(tmp_path / "out"))
    carried = {path.name for path in (place / "tiny").iterdir()} - {"config.json", "model.safetensors"}
    processors = {"preprocessor_config.json": 65_536, "video_preprocessor_config.json": 1024}
    assert {*processors, "chat_template.jinja"} < carried
    for name in carried - processors.keys():
        assert (tmp_path / "out" / name).read_bytes() == (place / "tiny" / name).read_bytes(), name
    for name, smallest in processors.items():
        before, after = (json.loads((folder / name).read_text()) for folder in (place / "tiny", tmp_path / "out"))
        assert after.pop("size")["shortest_edge"] == smallest
        assert after == before


def test_a_format_that_is_not_a_reasoners_is_refused(place: Path, tmp_path: Path) -> None:
    command = ("export", str(run_dir(place, "full")), "-o", str(tmp_path / "out"), "--format")
    said = cosmos(*command, "diffusers", code=2).stderr
    assert "there is no format 'diffusers'" in said
    assert not (tmp_path / "out").exists()
    cosmos(*command, "hf")
    assert (tmp_path / "out/config.json").is_file()


def test_a_tower_that_is_left_to_the_backbone_changes_nothing_but_the_size(place: Path, tmp_path: Path) -> None:
    """Losses, the resumed run and the export are those of the run that saves its frozen tower too."""
    leaving = "checkpoint.include_frozen=false"
    train(place, "left", leaving, "trainer.max_iter=2")
    train(place, "left", leaving)
    assert losses(run_dir(place, "left")) == losses(run_dir(place, "full"))
    full, left = (run_dir(place, name) / "checkpoints/iter_000000004" for name in ("full", "left"))
    missing = stored_keys(full / "model") - stored_keys(left / "model")
    assert missing
    assert all(name.startswith("net.model.visual.") for name in missing)
    for name in ("full", "left"):
        cosmos("export", str(run_dir(place, name)), "-o", str(tmp_path / name))
    exports = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("full", "left")]
    assert exports[0] == exports[1]
    plugins = PluginManager.discover()
    whole, followed = (
        load_for_eval(run_dir(place, name), plugins=plugins)[1].state_dict() for name in ("full", "left")
    )
    assert all(torch.equal(whole[name], followed[name]) for name in whole)
    pack(left, tmp_path / "packed")
    packed, saved = (tensors(folder / "model") for folder in (tmp_path / "packed", full))
    assert packed.keys() == saved.keys()
    assert all(torch.equal(packed[name], saved[name]) for name in saved)


def test_an_adapter_run_saves_adapters_and_resumes_on_them(place: Path) -> None:
    checkpoint = run_dir(place, "lora") / "checkpoints/iter_000000004"
    keys = stored_keys(checkpoint / "model")
    assert len(keys) == 3 * 4 * 2
    assert all(key.startswith("net.model.language_model.") and ".lora_" in key for key in keys)
    assert json.loads((checkpoint / "frozen_base.json").read_text())["dcp"] is False
    train(place, "parts", *LORA, "trainer.max_iter=2")
    assert "resume from" in train(place, "parts", *LORA)
    assert losses(run_dir(place, "parts")) == losses(run_dir(place, "lora"))


def test_merged_adapters_give_what_peft_gives(place: Path, tmp_path: Path) -> None:
    cosmos("export", str(run_dir(place, "lora")), "-o", str(tmp_path / "merged"))
    cosmos("export", str(run_dir(place, "lora")), "-o", str(tmp_path / "adapter"), "--adapter")
    plain = logits(loaded(place / "tiny"))
    adapted = logits(PeftModel.from_pretrained(loaded(place / "tiny"), str(tmp_path / "adapter")))
    merged = logits(loaded(tmp_path / "merged"))
    assert not torch.allclose(plain, adapted, rtol=1e-3)
    torch.testing.assert_close(adapted, merged, rtol=1e-5, atol=1e-5)


def test_adapters_trained_beside_other_weights_are_folded_into_them(place: Path, tmp_path: Path) -> None:
    beside = (*LORA[:1], 'optimizer.keys_to_select=["lora_", "layernorm"]', *LORA[2:])
    train(place, "beside", *beside)
    cosmos("export", str(run_dir(place, "beside")), "-o", str(tmp_path / "out"), "--verify")
    _, network = load_for_eval(run_dir(place, "beside"), plugins=PluginManager.discover())
    ours = {name.replace(".base_layer", ""): value for name, value in network.named_parameters()}
    theirs, before = (dict(loaded(folder).named_parameters()) for folder in (tmp_path / "out", place / "tiny"))
    adapted = 0
    for name, value in theirs.items():
        down, up = (ours.get(name.removesuffix("weight") + f"lora_{side}.weight") for side in "AB")
        change = 0 if down is None or up is None else 2 * up @ down
        adapted += down is not None
        torch.testing.assert_close(value, ours[name] + change, rtol=1e-6, atol=1e-7)
    assert adapted == 3 * 4
    norm = "model.language_model.layers.0.input_layernorm.weight"
    assert not torch.equal(theirs[norm], before[norm])
    said = cosmos("export", str(run_dir(place, "beside")), "-o", str(tmp_path / "no"), "--adapter", code=2).stderr
    assert "trained together with other weights" in said


def test_an_average_that_was_never_kept_cannot_be_exported(place: Path, tmp_path: Path) -> None:
    said = cosmos("export", str(run_dir(place, "full")), "-o", str(tmp_path / "out"), "--weights", "ema", code=2).stderr
    assert "keeps no average" in said
    assert not (tmp_path / "out").exists()


def test_adapters_name_the_weights_that_they_were_trained_on(place: Path, tmp_path: Path) -> None:
    """Architecture and tokenizer from one folder, weights from another."""
    write_reasoner(tmp_path / "weights", seed=3)
    train(place, "apart", *LORA, f"model.backbone.safetensors_path={tmp_path / 'weights'}")
    for name, more in (("merged", ()), ("adapter", ("--adapter",))):
        cosmos("export", str(run_dir(place, "apart")), "-o", str(tmp_path / name), *more)
    named = Path(json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"])
    assert named == tmp_path / "weights"
    merged = logits(loaded(tmp_path / "merged"))
    adapted = logits(PeftModel.from_pretrained(loaded(named), str(tmp_path / "adapter")))
    elsewhere = logits(PeftModel.from_pretrained(loaded(place / "tiny"), str(tmp_path / "adapter")))
    torch.testing.assert_close(adapted, merged, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(elsewhere, merged, rtol=1e-2)


@pytest.mark.parametrize("key", ["model_name", "safetensors_path"])
def test_adapters_on_a_repository_name_it_and_its_commit(place: Path, tmp_path: Path, key: str) -> None:
    """The name may be spelt ``hf://owner/repository``."""
    run = f"fetched_{key}"
    with serving(place / "tiny", QWEN, "models") as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        train(place, run, *LORA, f"model.backbone.{key}=hf://{QWEN}", **environment)
    export = ("export", str(run_dir(place, run)), "-o", str(tmp_path / "adapter"), "--adapter")
    cosmos(*export, env={**environment, "HF_HUB_OFFLINE": "1"})
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == QWEN
    assert settings["revision"] == PINNED[QWEN]


def test_adapters_on_fresh_weights_have_no_base_to_name_and_are_merged(place: Path, tmp_path: Path) -> None:
    train(place, "fresh", *LORA, "model.init=random", "trainer.max_iter=2")
    export = ("export", str(run_dir(place, "fresh")), "-o", str(tmp_path / "out"))
    assert "trained on fresh weights" in cosmos(*export, "--adapter", code=2).stderr
    assert not (tmp_path / "out").exists()
    cosmos(*export)
    assert not any("lora_" in name for name in loaded(tmp_path / "out").state_dict())


def test_adapters_on_the_tower_train_too(place: Path) -> None:
    both = 'model.lora_target_modules="q_proj,v_proj,qkv"'
    train(place, "tower", *LORA, both, "model.freeze.freeze_vision_encoder=false", "trainer.max_iter=2")
    keys = stored_keys(run_dir(place, "tower") / "checkpoints/iter_000000002/model")
    assert sum(".visual." in key for key in keys) == 3 * 2
    assert sum(".language_model." in key for key in keys) == 3 * 2 * 2


def test_adapters_on_a_changed_backbone_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir(place, "lora"), tmp_path / "run")
    record = tmp_path / "run/checkpoints/iter_000000004/frozen_base.json"
    write_reasoner(tmp_path / "other", seed=1)
    record.write_text(json.dumps({**json.loads(record.read_text()), "folder": str(tmp_path / "other")}))
    said = cosmos("export", str(tmp_path / "run"), "-o", str(tmp_path / "out"), code=2).stderr
    assert "other weights than the run was trained on" in said


def merge(place: Path, source: Path, output: Path, *more: str, code: int = 0) -> str:
    arguments = ("convert", str(source), "-o", str(output), "--to", "vlm", "--backbone", str(place / "tiny"), *more)
    done = cosmos(*arguments, code=code)
    return done.stdout + done.stderr


def test_a_generators_reasoner_on_qwens_tower(place: Path, tmp_path: Path) -> None:
    printed = merge(place, place / "published", tmp_path / "merged")
    assert "language tensors: 36" in printed
    names = dict(loaded(tmp_path / "merged").named_parameters())
    generator = load_file(place / "published/transformer/diffusion_pytorch_model.safetensors")
    backbone = load_file(place / "tiny/model.safetensors")
    rounded = {name: value.bfloat16().float() for name, value in generator.items()}
    assert torch.equal(
        names["model.language_model.layers.1.self_attn.o_proj.weight"], rounded["layers.1.self_attn.to_out.weight"]
    )
    assert torch.equal(
        names["model.language_model.layers.2.mlp.up_proj.weight"], rounded["layers.2.mlp.up_proj.weight"]
    )
    assert torch.equal(names["lm_head.weight"], rounded["lm_head.weight"])
    visual = [name for name in names if ".visual." in name]
    assert visual
    assert all(torch.equal(names[name], backbone[name].bfloat16().float()) for name in visual)
    report = json.loads((tmp_path / "merged/merge_report.json").read_text())
    assert report["written"].keys() == names.keys()
    stored = {f"{place / 'published/transformer'}: {name}" for name in generator}
    language = {origin for name, origin in report["written"].items() if ".visual." not in name}
    assert set(report["dropped"]) == stored - language
    assert len(report["dropped"]) == len(generator) - len(language) > 0
    train(
        place,
        "merged",
        f"model.backbone.safetensors_path={tmp_path / 'merged'}",
        "trainer.max_iter=1",
        "checkpoint.save_iter=1",
    )


def test_the_checkpoints_own_tower_wins_unless_qwens_is_asked_for(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "published", tmp_path / "source")
    (tmp_path / "source/vision_encoder").mkdir()
    tower = {
        name.removeprefix("model.visual."): value + 1
        for name, value in load_file(place / "tiny/model.safetensors").items()
        if ".visual." in name
    }
    save_file(tower, tmp_path / "source/vision_encoder/model.safetensors")
    assert "vision_encoder" in merge(place, tmp_path / "source", tmp_path / "own")
    merge(place, tmp_path / "source", tmp_path / "qwen", "--vision", "qwen")
    own, qwen = (dict(loaded(tmp_path / name).named_parameters()) for name in ("own", "qwen"))
    name = "model.visual.blocks.0.attn.qkv.weight"
    torch.testing.assert_close(own[name], qwen[name] + 1, rtol=1e-2, atol=1e-2)
    assert "no vision tower of its own" in merge(
        place, place / "published", tmp_path / "none", "--vision", "cosmos", code=2
    )


def interrupted_merge(source: Path, output: Path, place: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """A merge into small files that a Ctrl-C ends at the reading of group `after`; what follows is cut as small."""
    monkeypatch.setattr(safetensors, "SHARD_BYTES", 40_000)
    read, readings = SafetensorsWeights.read, count(1)

    def interrupted(self: SafetensorsWeights, names: Collection[str]) -> dict[str, torch.Tensor]:
        if next(readings) == after:
            raise KeyboardInterrupt
        return read(self, names)

    monkeypatch.setattr(SafetensorsWeights, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge_onto_tower(source, output, backbone=str(place / "tiny"), vision="qwen")
    monkeypatch.setattr(SafetensorsWeights, "read", read)


def test_an_interrupted_merge_goes_on_at_the_file_it_had_reached(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two readings a file: to write it and to verify it. The fifth is the third file's, the sixth its verification.
    interrupted_merge(place / "published", tmp_path / "out", place, monkeypatch, after=6)
    assert not (tmp_path / "out").exists()
    first, second = sorted((tmp_path / ".out.partial").glob("model-*.safetensors"))
    stamps = [file.stat().st_mtime_ns for file in (first, second)]
    options = {"backbone": str(place / "tiny"), "vision": "qwen"}
    printed = merge_onto_tower(place / "published", tmp_path / "out", **options)
    assert printed["shards of an interrupted merge"] == 2
    assert [(tmp_path / "out" / file.name).stat().st_mtime_ns for file in (first, second)] == stamps
    merge_onto_tower(place / "published", tmp_path / "whole", **options)
    whole, out = (dict(loaded(tmp_path / name).named_parameters()) for name in ("whole", "out"))
    assert all(torch.equal(out[name], value) for name, value in whole.items())
    assert not list((tmp_path / "out").glob(".*"))


def test_what_was_left_of_another_source_is_not_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_generator(tmp_path / "other", MATCHING, seed=1)
    interrupted_merge(tmp_path / "other", tmp_path / "out", place, monkeypatch, after=6)
    options = {"backbone": str(place / "tiny"), "vision": "qwen"}
    printed = merge_onto_tower(place / "published", tmp_path / "out", **options)
    assert printed["shards of an interrupted merge"] == 0
    merge_onto_tower(place / "published", tmp_path / "whole", **options)
    whole, out = (dict(loaded(tmp_path / name).named_parameters()) for name in ("whole", "out"))
    assert all(torch.equal(out[name], value) for name, value in whole.items())


def test_a_shard_of_the_generator_or_of_the_tower_that_is_gone_is_named(place: Path, tmp_path: Path) -> None:
    in_shards(place / "tiny", tmp_path / "tower")
    in_shards(place / "published/transformer", tmp_path / "generator")
    assert "language tensors: 36" in merge(place, tmp_path / "generator", tmp_path / "whole")
    for folder, wanted in ((tmp_path / "generator", "embed_tokens"), (tmp_path / "tower", "visual.patch_embed")):
        index = next(folder.glob("*.index.json"))
        lost = next(file for name, file in json.loads(index.read_text())["weight_map"].items() if wanted in name)
        (folder / lost).rename(tmp_path / lost)
        arguments = ("convert", str(tmp_path / "generator"), "-o", str(tmp_path / "out"), "--to", "vlm")
        said = cosmos(*arguments, "--backbone", str(tmp_path / "tower"), code=2).stderr
        assert f"names {lost}, which is missing" in said
        assert index.name in said
        assert "Traceback" not in said
        (tmp_path / lost).rename(folder / lost)


def in_shards(folder: Path, copy: Path) -> None:
    """A copy of a folder with one file of weights, cut into several with an index."""
    shutil.copytree(folder, copy)
    file = next(copy.glob("*.safetensors"))
    weights = load_file(file)
    file.unlink()
    places = {}
    for number, names in enumerate(sorted(weights)[start::4] for start in range(4)):
        part = f"{file.stem}-{number:05d}.safetensors"
        save_file({name: weights[name] for name in names}, copy / part)
        places.update(dict.fromkeys(names, part))
    (copy / f"{file.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_a_generator_of_another_size_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    other = NetworkConfig(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=48, vocab=264)
    write_generator(tmp_path / "other", other)
    said = merge(place, tmp_path / "other", tmp_path / "out", code=2)
    assert "tensors are missing" in said
    assert "have another shape" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
