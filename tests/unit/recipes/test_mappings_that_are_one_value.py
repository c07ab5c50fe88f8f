"""A mapping that is one value replaces; other tables merge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from cosmos_core.config import DatasetConfig, option, section
from cosmos_core.config.one_value import one_value_paths
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load, resolve

PLUGINS = PluginManager.discover()
MIX = "dataloader_train.dataset.conditioning_config"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "child.toml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def mix(recipe: str, *overrides: str, loader: str = "dataloader_train") -> dict[str, float]:
    found: dict[str, float] = getattr(load(recipe, overrides, plugins=PLUGINS), loader).dataset.conditioning_config
    return found


def test_a_child_replaces_it_in_a_table_inline_or_dotted(write: Write) -> None:
    for text in (f"{MIX} = {{ 0 = 1.0 }}", f"[{MIX}]\n0 = 1.0", f"{MIX}.0 = 1.0"):
        path = write(f'extends = "vision_sft_nano"\n{text}\n')
        assert mix(path) == {"0": 1.0}
        origins = resolve(path, plugins=PLUGINS).provenance
        assert (*MIX.split("."), "1") not in origins
        assert origins[(*MIX.split("."), "0")].file == path


def test_the_command_line_replaces_it_and_the_last_one_holds(write: Write) -> None:
    assert mix("vision_sft_nano", f"{MIX}={{1=1.0}}") == {"1": 1.0}
    assert mix("vision_sft_nano", f"{MIX}={{1=1.0}}", f"{MIX}={{2=3, 0=1}}") == {"2": 3.0, "0": 1.0}
    path = write(f'extends = "vision_sft_nano"\n{MIX} = {{ 0 = 1.0 }}\n')
    assert mix(path, f"{MIX}={{2=1.0}}") == {"2": 1.0}


def test_it_is_replaced_in_the_validation_data_and_through_an_experiment_too(write: Write) -> None:
    path = write('extends = "vision_sft_demo"\ndataloader_val.dataset.conditioning_config = { 1 = 1.0 }\n')
    assert mix(path, loader="dataloader_val") == {"1": 1.0}
    assert mix(write(f'{MIX} = {{ 0 = 1.0 }}\n[job]\nexperiment = "vision_sft_super"\n')) == {"0": 1.0}


def test_a_grandchild_replaces_what_its_parent_said(write: Write) -> None:
    write(f'extends = "vision_sft_nano"\n{MIX} = {{ 0 = 0.5, 1 = 0.5 }}\n', "parent.toml")
    assert mix(write(f'extends = "parent.toml"\n{MIX} = {{ 2 = 1.0 }}\n')) == {"2": 1.0}
    assert mix(write('extends = "parent.toml"\n')) == {"0": 0.5, "1": 0.5}


def test_one_entry_of_it_on_the_command_line_is_refused_with_the_way_to_say_it() -> None:
    with pytest.raises(UserError) as error:
        load("vision_sft_nano", (f"{MIX}.0=1.0",), plugins=PLUGINS)
    (problem,) = error.value.problems
    assert (problem.key, problem.file) == (f"{MIX}.0", "command line")
    assert f"{MIX}={{0 = 1" in problem.hint


def test_tables_of_independent_entries_merge(write: Write) -> None:
    path = write('extends = "llava_ov"\n[optimizer.lr_multipliers]\nlm_head = 0.5\n')
    config = load(path, ("optimizer.lr_multipliers.merger=2.0",), plugins=PLUGINS)
    assert config.optimizer.lr_multipliers == {"model.visual": 0.1, "lm_head": 0.5, "merger": 2.0}


@frozen(kw_only=True)
class Inner:
    shares: dict[str, float] = option({}, "Shares.", one_value=True)
    rates: dict[str, float] = option({}, "Rates.")


@frozen(kw_only=True)
class Outer(DatasetConfig):
    inner: Inner = section(Inner, "Inner.")


def test_a_plugins_own_are_found_wherever_its_tables_are() -> None:
    class Lookup:
        def section_class(self, section: str, name: str) -> type:
            if name == "gone":
                raise UserError("no such name")
            return Inner if section in ("trackers", "trainer.callbacks") else Outer

    values = {
        "job": {"task": "gone"},
        "trainer": {"callbacks": {"bell": {}, "gone": {}}},
        "trackers": {"csv": 3},
        "dataloader_val": {"dataset": {"type": "lidar"}},
        "dataloader_train": {"dataset": {"type": 3}},
    }
    assert one_value_paths(values, Lookup()) == {
        ("trainer", "callbacks", "bell", "shares"),
        ("trackers", "csv", "shares"),
        ("dataloader_val", "dataset", "inner", "shares"),
    }
