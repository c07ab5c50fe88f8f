"""Weights of a run are loaded for an evaluation as they were trained, whatever the configuration would train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.errors import UserError
from cosmos_core.plan.source import find_source
from cosmos_core.recipes import load
from cosmos_core.train.load_for_eval import check_meaning, load_source
from tests.unit.train.runs import PLUGINS, ready


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained one part, and so keeps the average of that part alone."""
    trainer, _ = ready(tmp_path_factory.mktemp("part"), 'optimizer.keys_to_select=["blocks"]', recorded=True)
    trainer.train()
    return trainer.paths.root


def tensors(run_dir: Path, *overrides: str, weights: str = "ema") -> dict[str, torch.Tensor]:
    """Of the run's last checkpoint, loaded with the settings of the recipe."""
    source, config = find_source(run_dir, PLUGINS), load("hello", overrides, plugins=PLUGINS)
    check_meaning(source, config, weights)
    return load_source(source, config, plugins=PLUGINS, weights=weights)[1].state_dict()


@pytest.mark.parametrize("keys", ["[]", '["head"]', '["blocks.0", "embed"]'])
def test_averages_are_those_of_what_the_run_trained(run_dir: Path, keys: str) -> None:
    own = tensors(run_dir, 'optimizer.keys_to_select=["blocks"]')
    other = tensors(run_dir, f"optimizer.keys_to_select={keys}", "model.noise=2")
    torch.testing.assert_close(other, own, rtol=0, atol=0)
    live = tensors(run_dir, weights="live")
    assert {name for name in own if not own[name].equal(live[name])} == {name for name in own if "blocks" in name}


def test_settings_of_the_average_matter_only_where_the_average_is_read(run_dir: Path) -> None:
    live = tensors(run_dir, "model.ema.enabled=false", weights="live")
    torch.testing.assert_close(live, tensors(run_dir, weights="live"), rtol=0, atol=0)
    with pytest.raises(UserError, match="is false, the weights were trained with true"):
        tensors(run_dir, "model.ema.enabled=false")
