"""Recipes written for the cosmos-framework training scripts load unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.plan.schedule import factor
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import resolve
from tests.command import cosmos

PLUGINS = PluginManager.discover()

NANO = """\
[job]
task = "vfm"
experiment = "{experiment}"
project = "cosmos3"
group = "sft"
name = "{experiment}"
wandb_mode = "disabled"

[model]
max_num_tokens_after_packing = 45056
joint_attn_implementation = "two_way"
precision = "bfloat16"
attn_implementation = "cosmos"

[model.backbone]
model_name = "???"

[model.ema]
enabled = true
rate = 0.1
iteration_shift = 0

[model.parallelism]
data_parallel_shard_degree = -1
data_parallel_replicate_degree = 1

[model.tokenizer]
vae_path = "${{oc.env:WAN_VAE_PATH}}"

[optimizer]
lr = 2e-5
betas = [0.9, 0.95]
eps = 1e-6
fused = true
weight_decay = 0.0
keys_to_select = ["moe_gen", "time_embedder", "vae2llm", "llm2vae"]

[scheduler]
cycle_lengths = [1000]
warm_up_steps = [50]
f_start = [0.0]
f_max = [1.0]
f_min = [0.0]

[trainer]
max_iter = 500
grad_accum_iter = 2
logging_iter = 1

[trainer.callbacks.compile_tokenizer]
enabled = false
compile_after_iterations = 3

[trainer.callbacks.grad_clip]
clip_norm = 0.1
force_finite = true

[checkpoint]
keys_to_skip_loading = ["net_ema."]
load_path = "${{oc.env:BASE_CHECKPOINT_PATH}}"
save_iter = 100

[dataloader_train]
max_sequence_length = 45056
max_caption_tokens = 2048
"""


REASONER = """\
[job]
task = "vlm"
experiment = "{experiment}"
project = "cosmos3"
group = "sft"
name = "{experiment}"
wandb_mode = "disabled"

[model]
attn_implementation = "cosmos"
precision = "bfloat16"
max_num_tokens_after_packing = 16000

[model.backbone]
model_name = "Qwen/Qwen3-VL-8B-Instruct"

[model.ema]
enabled = false
rate = 0.1
iteration_shift = 0

[model.parallelism]
data_parallel_shard_degree = 8
data_parallel_replicate_degree = -1
context_parallel_shard_degree = 1
cfg_parallel_shard_degree = 1

[model.compile]
enabled = false
compile_dynamic = true

[model.activation_checkpointing]
mode = "full"
save_ops_regex = ["fmha"]
preserve_rng_state = true
determinism_check = "default"

[optimizer]
betas = [0.9, 0.95]
eps = 1e-8
fused = true
lr = 1e-5
weight_decay = 0.1

[scheduler]
cycle_lengths = [{cycle}]
warm_up_steps = [{warm}]
f_start = [0.05]
f_max = [1.0]
f_min = [0.5]

[trainer]
distributed_parallelism = "fsdp"
grad_accum_iter = 1
logging_iter = 1
max_iter = {cycle}

[trainer.callbacks.compile_tokenizer]
compile_after_iterations = 3
enabled = false

[trainer.callbacks.grad_clip]
clip_norm = 1.0
force_finite = false

[checkpoint]
keys_to_skip_loading = []
load_path = "???"
save_iter = 100

[dataloader_train]
max_samples_per_batch = 1
max_sequence_length = 16000
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WAN_VAE_PATH", "/vae.pth")
    monkeypatch.setenv("BASE_CHECKPOINT_PATH", "/base")
    monkeypatch.setenv("DATASET_PATH", "/data")

    def write(experiment: str) -> str:
        (tmp_path / "reference.toml").write_text(NANO.format(experiment=experiment))
        return str(tmp_path / "reference.toml")

    return write


@pytest.mark.parametrize(
    "experiment", ["vision_sft_nano", "vision_sft_edge", "vision_sft_super", "vision_sft_nano_mapstyle_dataloader"]
)
def test_the_experiment_is_the_parent(recipe, experiment: str) -> None:
    adapters = ['optimizer.keys_to_select=["lora_"]', "model.ema.enabled=false"]
    config = resolve(recipe(experiment), adapters if experiment.endswith("super") else [], plugins=PLUGINS).config
    assert config.dataloader_train.dataset.path == "/data"
    assert config.dataloader_train.dataset.conditioning_config == {"0": 0.7, "1": 0.2, "2": 0.1}
    assert config.optimizer.lr == 2e-5
    assert config.model.tokenizer.vae_path == "/vae.pth"
    assert config.checkpoint.load_path == "/base"
    assert config.model.tier == {"vision_sft_edge": "edge", "vision_sft_super": "super"}.get(experiment, "nano")


def test_the_map_style_variants_have_a_dataset_of_their_own(recipe, tmp_path: Path) -> None:
    """Their loaders' values are not in their TOML: captions are cut sooner there, rows are 4000."""
    generator = Path(recipe("vision_sft_nano_mapstyle_dataloader"))
    generator.write_text(generator.read_text().partition("[dataloader_train]")[0])
    loader = resolve(str(generator), plugins=PLUGINS).config.dataloader_train
    assert (loader.max_caption_tokens, loader.max_sequence_length) == (1024, 45056)
    assert resolve(recipe("vision_sft_nano"), plugins=PLUGINS).config.dataloader_train.max_caption_tokens == 2048
    reasoner = tmp_path / "reasoner.toml"
    for experiment, rows in (("pre_exp012_llava_ov_mapstyle_dataloader", 4000), ("pre_exp012_llava_ov", None)):
        reasoner.write_text(REASONER.format(experiment=experiment, cycle=500, warm=1000))
        assert resolve(str(reasoner), plugins=PLUGINS).config.dataloader_train.dataset.limit == rows


@pytest.mark.parametrize(
    ("experiment", "cycle", "warm"),
    [("pre_exp012_llava_ov_datapacker", 500, 1000), ("pre_exp012_llava_ov", 500, 1000), ("videophy2_sft_nano", 50, 5)],
)
def test_reasoner_recipes_load_as_they_are(tmp_path: Path, experiment: str, cycle: int, warm: int) -> None:
    """One sample a micro-batch under a cap of tokens, a load_path of "???" that a reasoner never reads."""
    path = tmp_path / "reference.toml"
    path.write_text(REASONER.format(experiment=experiment, cycle=cycle, warm=warm))
    loader = resolve(str(path), plugins=PLUGINS).config.dataloader_train
    assert (loader.max_samples_per_batch, loader.max_sequence_length) == (1, 16000)
    assert cosmos("recipes", "check", str(path)).stdout == f"{path}: ok\n"


def test_a_warm_up_past_its_cycle_is_kept_with_a_warning_in_the_references_dialect_alone(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.toml", tmp_path / "ours.toml"
    theirs.write_text(REASONER.format(experiment="pre_exp012_llava_ov", cycle=500, warm=1000))
    resolved = resolve(str(theirs), plugins=PLUGINS)
    assert factor(resolved.config.scheduler, 250) == pytest.approx(0.05 + 0.95 * 0.25)
    assert [note.line for note in resolved.notes if note.key == "scheduler.warm_up_steps"] == [47]
    ours.write_text('extends = "llava_ov"\n' + theirs.read_text())
    assert "never ends" in cosmos("recipes", "check", str(ours), code=2).stderr


def test_keys_without_effect_are_warned_about_with_their_line(recipe) -> None:
    path = recipe("vision_sft_nano")
    notes = resolve(path, plugins=PLUGINS).notes
    assert [(note.key, note.line) for note in notes] == [("model.attn_implementation", 13), ("model.backbone", 15)]
    warned = cosmos("recipes", "check", path)
    assert "reference.toml:13" in warned.stderr
    assert "ok" in warned.stdout
    assert "has no effect" in cosmos("recipes", "check", "--strict", path, code=2).stderr


def test_a_key_that_no_task_reads_is_noted_once_and_its_type_is_checked(recipe, tmp_path: Path) -> None:
    path = Path(recipe("vision_sft_nano"))
    after = "compile_after_iterations = 3\n"
    path.write_text(path.read_text().replace(after, after + 'warmup_resolutions = ["256"]\n'))
    noted = [note for note in resolve(str(path), plugins=PLUGINS).notes if "warmup_resolutions" in note.key]
    line = path.read_text().splitlines().index('warmup_resolutions = ["256"]') + 1
    assert [(note.message, note.file, note.line) for note in noted] == [("has no effect", str(path), line)]
    path.write_text(path.read_text().replace('["256"]', '"256"'))
    assert "expected a list" in cosmos("recipes", "check", str(path), code=2).stderr
    reasoner = tmp_path / "reasoner.toml"
    text = REASONER.format(experiment="videophy2_sft_nano", cycle=50, warm=5)
    reasoner.write_text(text.replace(after, after + 'warmup_resolutions = ["256"]\n'))
    notes = resolve(str(reasoner), plugins=PLUGINS).notes
    assert [note.key for note in notes if "compile_tokenizer" in note.key] == ["trainer.callbacks.compile_tokenizer"]


def test_the_factor_is_logged_for_reasoners_too(tmp_path: Path) -> None:
    path = tmp_path / "reasoner.toml"
    text = REASONER.format(experiment="videophy2_sft_nano", cycle=50, warm=5)
    path.write_text(text.replace("[scheduler]\n", "[scheduler]\nverbosity_interval = 7\n"))
    resolved = resolve(str(path), plugins=PLUGINS)
    assert resolved.config.scheduler.verbosity_interval == 7
    assert not [note for note in resolved.notes if note.key == "scheduler.verbosity_interval"]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model.config.parallelism.data_parallel_shard_degree=4", "model.parallelism.data_parallel_shard_degree", 4),
        ("model.config.precision=float32", "model.precision", "float32"),
        ("data_setting.max_tokens=999", "dataloader_train.max_sequence_length", 999),
    ],
)
def test_addresses_of_the_reference_are_translated_with_a_note(recipe, override: str, key: str, value: object) -> None:
    resolved = resolve(recipe("vision_sft_nano"), ["--", override], plugins=PLUGINS)
    found = resolved.config
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert key in resolved.notes[0].message


def test_shipped_recipes_check_and_copy_with_their_comments(tmp_path: Path) -> None:
    recipes = ("vision_sft_nano", "vision_sft_edge", "vision_sft_super", "vision_sft_demo", "hello")
    assert cosmos("recipes", "check", *recipes).stdout.splitlines() == [f"{recipe}: ok" for recipe in recipes]
    copy = tmp_path / "mine.toml"
    cosmos("recipes", "copy", "vision_sft_demo", str(copy))
    assert "# Everything trains" in copy.read_text()
    assert "exists already" in cosmos("recipes", "copy", "vision_sft_demo", str(copy), code=2).stderr
    bad = tmp_path / "bad.toml"
    bad.write_text(copy.read_text().replace("lr = 3e-3", "lrr = 3e-3"))
    checked = cosmos("recipes", "check", str(copy), str(bad), "hello", code=2)
    assert checked.stdout == f"{copy}: ok\nhello: ok\n"
    assert "'lr'" in checked.stderr
