"""Every problem of a recipe is found in one go, at the key it belongs to and the line it was written in."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.config.structure import read_resolved
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load

PLUGINS = PluginManager.discover()
ADAPTERS = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "model.ema.enabled=false")

BASE = {
    "job": ['task = "tiny"', 'name = "base"'],
    "model": ['init = "random"', 'precision = "float32"'],
    "dataloader_train": ["max_samples_per_batch = 4"],
    "dataloader_train.dataset": ['type = "tiny"'],
}


def written(tmp_path: Path, changes: dict[str, list[str]]) -> tuple[Path, list[str]]:
    """A recipe, and its lines. changes: sections written anew or added; "" holds keys above all sections."""
    sections = {"": [], **BASE, **changes}
    lines = [line for name, entries in sections.items() for line in ([f"[{name}]", *entries] if name else entries)]
    path = tmp_path / "recipe.toml"
    path.write_text("\n".join(lines) + "\n")
    return path, lines


def problems(tmp_path: Path, changes: dict[str, list[str]], *overrides: str) -> set[tuple[str, str]]:
    """Key and line's text of every problem; they come in the order of the lines."""
    path, lines = written(tmp_path, changes)
    with pytest.raises(UserError) as error:
        load(str(path), overrides, plugins=PLUGINS)
    found = error.value.problems
    assert {problem.file for problem in found} <= {str(path), "command line"}
    lined = [problem.line for problem in found if problem.line is not None]
    assert [problem.line for problem in found][: len(lined)] == sorted(lined)
    assert error.value.title.startswith(f"{len(found)} problem{'s' if len(found) > 1 else ''} in ")
    return {(one.key, lines[one.line - 1] if one.line else one.file) for one in found}


def test_a_recipe_without_fault_has_no_problem(tmp_path: Path) -> None:
    path, _ = written(tmp_path, {"trainer.callbacks.grad_clip": [], "custom": ["anything = 3"]})
    config = load(str(path), (), plugins=PLUGINS)
    assert (list(config.trainer.callbacks), config.custom) == (["grad_clip"], {"anything": 3})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Bounds deep in nested tables.
        ({"model.ema": ["rate = -1.0"]}, {("model.ema.rate", "rate = -1.0")}),
        (
            {"model.parallelism": ["data_parallel_shard_degree = -7"], "optimizer": ["lr = -1.0"]},
            {
                ("model.parallelism.data_parallel_shard_degree", "data_parallel_shard_degree = -7"),
                ("optimizer.lr", "lr = -1.0"),
            },
        ),
        # A bound beside an unknown key and a wrong type in the same table, and in tables of it.
        (
            {"optimizer": ["lr = -1.0", "eps = 'x'", "lrr = 1"]},
            {("optimizer.lr", "lr = -1.0"), ("optimizer.eps", "eps = 'x'"), ("optimizer.lrr", "lrr = 1")},
        ),
        (
            {"model": [*BASE["model"], "hidden = 0"], "model.ema": ["rate = 'x'", "iteration_shift = -1"]},
            {
                ("model.hidden", "hidden = 0"),
                ("model.ema.rate", "rate = 'x'"),
                ("model.ema.iteration_shift", "iteration_shift = -1"),
            },
        ),
        # An element of a list.
        ({"optimizer": ["betas = ['x', 0.9]"]}, {("optimizer.betas[0]", "betas = ['x', 0.9]")}),
        # What is no table.
        ({"": ["optimizer = 3"]}, {("optimizer", "optimizer = 3")}),
        ({"trainer": ["callbacks = 3"]}, {("trainer.callbacks", "callbacks = 3")}),
        ({"trainer": ["callbacks.grad_clip = 3"]}, {("trainer.callbacks.grad_clip", "callbacks.grad_clip = 3")}),
        # Names that nobody provides; the other keys are checked all the same.
        (
            {"dataloader_train.dataset": ['type = "tinny"'], "dataloader_train": ["max_samples_per_batch = 0"]},
            {
                ("dataloader_train.dataset.type", 'type = "tinny"'),
                ("dataloader_train.max_samples_per_batch", "max_samples_per_batch = 0"),
            },
        ),
        (
            {"job": ['task = "tinny"', 'name = "base"', "nam = 1"], "optimizer": ["lr = -1.0"]},
            {("job.task", 'task = "tinny"'), ("job.nam", "nam = 1"), ("optimizer.lr", "lr = -1.0")},
        ),
        ({"trainer.callbacks.clip": ["x = 1"]}, {("trainer.callbacks.clip", "[trainer.callbacks.clip]")}),
        ({"trackers.nothing": []}, {("trackers.nothing", "[trackers.nothing]")}),
        # What is missing, in the table it is missing from.
        (
            {"dataloader_train.dataset": ["count = 3"]},
            {("dataloader_train.dataset.type", "[dataloader_train.dataset]")},
        ),
        (
            {"job": ['task = "tiny"', "nam = 1"], "optimizer": ["lr = -1.0"]},
            {("job.name", "[job]"), ("job.nam", "nam = 1"), ("optimizer.lr", "lr = -1.0")},
        ),
        ({"optimiser": []}, {("optimiser", "[optimiser]")}),
        (
            {"dataloader_val": ["max_samples_per_batch = 4"], "dataloader_val.dataset": ['type = "tinny"']},
            {("dataloader_val.dataset.type", 'type = "tinny"')},
        ),
        (
            {"dataloader_val": ["max_samples_per_batch = 0"], "dataloader_val.dataset": ['type = "tiny"']},
            {("dataloader_val.max_samples_per_batch", "max_samples_per_batch = 0")},
        ),
        # Rules over several keys come when all else is well.
        (
            {"scheduler": ["cycle_lengths = [10]", "warm_up_steps = [20]"]},
            {("scheduler.warm_up_steps", "warm_up_steps = [20]")},
        ),
    ],
)
def test_problems_name_their_key_and_line(
    tmp_path: Path, changes: dict[str, list[str]], expected: set[tuple[str, str]]
) -> None:
    assert problems(tmp_path, changes) == expected


def test_a_problem_of_an_override_is_placed_on_the_command_line(tmp_path: Path) -> None:
    assert problems(tmp_path, {}, "model.ema.rate=-1.0") == {("model.ema.rate", "command line")}


def test_what_is_recorded_is_read_though_a_later_rule_forbids_it(tmp_path: Path) -> None:
    path, _ = written(tmp_path, {"scheduler": ["cycle_lengths = [10]", "warm_up_steps = [20]"]})
    config = read_resolved(path, PLUGINS.registry)
    assert (config.scheduler.warm_up_steps, config.dataloader_val) == ((20,), None)
    path, _ = written(tmp_path, {"scheduler": ["cycle_lengths = []"]})
    with pytest.raises(UserError, match=str(path)):
        read_resolved(path, PLUGINS.registry)


def test_a_misspelt_section_and_key_get_a_suggestion(tmp_path: Path) -> None:
    path, _ = written(tmp_path, {"optimiser": [], "trainer": ["max_itre = 3"]})
    with pytest.raises(UserError) as error:
        load(str(path), (), plugins=PLUGINS)
    assert {problem.hint for problem in error.value.problems} == {
        "did you mean 'optimizer'?",
        "did you mean 'max_iter'?",
    }


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (("model.lora_enabled=true",), {"optimizer.keys_to_select", "model.ema.enabled"}),
        ((*ADAPTERS, 'model.lora_target_modules=" , "'), {"model.lora_target_modules"}),
        (('optimizer.keys_to_select=["lora_"]',), {"optimizer.keys_to_select"}),
    ],
)
def test_flags_of_adapters_that_disagree_are_refused_before_anything_is_planned(
    overrides: tuple[str, ...], keys: set[str]
) -> None:
    with pytest.raises(UserError) as error:
        load("vision_sft_nano", overrides, plugins=PLUGINS)
    assert {problem.key for problem in error.value.problems} == keys
