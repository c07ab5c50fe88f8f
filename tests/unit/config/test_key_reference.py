"""Every key is explained: the generated pages, the JSON Schema, `explain`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cosmos_core import plugin as author
from cosmos_core.config.explain import explain_key
from cosmos_core.config.reference import keys_of
from cosmos_core.config.schema import json_schema
from cosmos_core.plugin import PluginManager
from cosmos_core.plugin.docs import examples
from cosmos_core.recipes.find import list_recipes
from tests.command import ROOT, cosmos

PLUGINS = PluginManager.discover()
SECTIONS = PLUGINS.registry.sections()
SCHEMA = json_schema(SECTIONS)

CONTRACT = """
job.task job.experiment job.project job.group job.name job.wandb_mode model.max_num_tokens_after_packing
model.joint_attn_implementation model.lora_enabled model.lora_rank model.lora_alpha model.lora_target_modules
model.ema.enabled model.ema.rate model.ema.iteration_shift model.parallelism.data_parallel_shard_degree
model.parallelism.data_parallel_replicate_degree model.parallelism.context_parallel_shard_degree
model.parallelism.cfg_parallel_shard_degree model.parallelism.fsdp_master_dtype model.compile.enabled
model.compile.compile_dynamic model.precision model.activation_checkpointing.mode
model.activation_checkpointing.save_ops_regex model.activation_checkpointing.preserve_rng_state
model.activation_checkpointing.determinism_check model.tokenizer.vae_path optimizer.lr optimizer.betas optimizer.eps
optimizer.fused optimizer.weight_decay optimizer.keys_to_select optimizer.lr_multipliers scheduler.cycle_lengths
scheduler.warm_up_steps scheduler.f_max scheduler.f_min scheduler.f_start scheduler.verbosity_interval
trainer.max_iter trainer.grad_accum_iter trainer.logging_iter trainer.distributed_parallelism
trainer.callbacks.compile_tokenizer.enabled trainer.callbacks.compile_tokenizer.compile_after_iterations
trainer.callbacks.compile_tokenizer.warmup_resolutions trainer.callbacks.grad_clip.clip_norm
trainer.callbacks.grad_clip.force_finite checkpoint.load_path checkpoint.save_iter checkpoint.keys_to_skip_loading
dataloader_train.max_samples_per_batch dataloader_train.max_sequence_length dataloader_train.max_caption_tokens
dataloader_train.seed
"""


@pytest.mark.parametrize(
    ("command", "page"),
    [(("config", "reference"), "cosmos_core/config/README.md"), (("plugins", "hooks"), "cosmos_core/plugin/README.md")],
)
def test_generated_pages_are_fresh(command: tuple[str, ...], page: str) -> None:
    assert cosmos(*command).stdout == (ROOT / page).read_text(), "run `make docs`"


def test_every_key_has_help_and_a_type() -> None:
    keys = [key for section in SECTIONS for key in keys_of(section)]
    assert len(keys) > 120
    for key in keys:
        assert key.help, key.name
        assert key.type, key.name
        assert key.owner.startswith("cosmos-"), key.name


def test_the_keys_of_the_contract_exist() -> None:
    names = {key.name for section in SECTIONS for key in keys_of(section)}
    assert not set(CONTRACT.split()) - names


def test_the_schema_is_valid_and_accepts_every_shipped_recipe() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    for recipe in list_recipes():
        problems = [error.message for error in validator.iter_errors(tomllib.loads(recipe.path.read_text()))]
        assert not problems, recipe.name


@pytest.mark.parametrize(
    "text",
    [
        "[job]\ntsk = 'vfm'",
        "[optimizer]\nlr = '1e-4'",
        "[trainer]\nmax_iter = 0",
        "[model]\nprecision = 'float8'",
        "[trainer.callbacks.unknown]\nx = 1",
        "[nonsense]\nx = 1",
    ],
)
def test_the_schema_refuses_what_loading_refuses(text: str) -> None:
    assert list(Draft202012Validator(SCHEMA).iter_errors(tomllib.loads(text)))


def test_interpolations_pass_the_schema() -> None:
    recipe = tomllib.loads('[optimizer]\nlr = "${oc.env:LR,1e-4}"\n[trainer]\nmax_iter = "???"')
    assert not list(Draft202012Validator(SCHEMA).iter_errors(recipe))


def test_the_schema_of_one_task_has_only_its_model() -> None:
    printed = json.loads(cosmos("config", "schema", "--task", "vfm").stdout)
    (model,) = printed["properties"]["model"]["anyOf"]
    assert "tier" in model["properties"]
    assert "did you mean 'vfm'?" in cosmos("config", "schema", "--task", "vfn", code=2).stderr


@pytest.mark.parametrize(
    ("key", "said"),
    [("optimizer.lr", "another value is taken"), ("model.flow.loss_scale", "would train something else")],
)
def test_explain_says_in_words_what_another_value_does_on_resume(key: str, said: str) -> None:
    [facts, *_] = explain_key(key, SECTIONS)
    assert said in facts["on resume"]


def test_explain_says_all_there_is_to_say(tmp_path: Path) -> None:
    text = cosmos("config", "explain", "optimizer.lr").stdout
    for line in ("type: number", "default: 0.0001", "bounds: at least 0", "owner: cosmos-core"):
        assert line in text
    text = cosmos("config", "explain", "optimizer.lr", "--recipe", "vision_sft_edge").stdout
    assert "value: 0.0001" in text
    assert "vision_sft_edge.toml:" in text
    text = cosmos("config", "explain", "dataloader_val.dataset.resolution", "--recipe", "vision_sft_demo").stdout
    assert "when: dataset bridge" in text
    assert "when: dataset folder" not in text  # Which this recipe does not read.
    assert 'value: "64"' in text
    assert cosmos("config", "explain", "model.ema.rate", "--recipe", "hello").stdout.count("when: ") == 1
    assert "when: task vfm" in cosmos("config", "explain", "model.tier", "--recipe", "hello").stdout
    facts = json.loads(cosmos("config", "explain", "model.tier", "--json").stdout)
    assert facts[0]["bounds"] == "one of tiny, tiny_even, tiny_edge, edge, nano, super"
    assert "did you mean 'optimizer.lr'?" in cosmos("config", "explain", "optimizer.lrr", code=2).stderr


@pytest.mark.parametrize("hook", examples())
def test_the_example_of_every_hook_runs(hook: str, tmp_path: Path) -> None:
    body = "\n".join("    " + line for line in examples()[hook].splitlines())
    names = {name: getattr(author, name) for name in author.__all__}
    exec(f"def example(plan, path):\n{body}\n", names)

    class Plan:
        class config:
            class job:
                task = "acme"

        class degrees:
            context = 2

    (tmp_path / "acme.json").touch()
    answer = names["example"](Plan, tmp_path)
    if hook == "cosmos_identify_checkpoint":
        assert answer == "acme"
        return
    if hook == "cosmos_identify_data":
        assert answer.recipe == "acme_hello"
        return
    produced = list(answer)
    assert len(produced) == 1
    assert type(produced[0]).__name__.endswith("Spec") or isinstance(produced[0], author.Problem)
