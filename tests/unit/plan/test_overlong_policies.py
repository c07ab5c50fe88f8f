"""Policies for samples longer than a pack that the family or the dataset does not take are found before a run."""

from __future__ import annotations

import pytest
from attrs import evolve

from cosmos_core.plan.preflight import unsupported_policies
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load

PLUGINS = PluginManager.discover()
NANO = ("vision_sft_nano", ("dataloader_train.dataset.path=.",))
RATINGS = ("videophy2_sft_nano", ("dataloader_train.dataset.path=.", "dataloader_val.dataset.path=."))


@pytest.mark.parametrize(
    ("recipe", "policy", "said"),
    [
        (NANO, "skip", []),
        (NANO, "resize", ["'resize' is not for family 'vfm': one of error, skip"]),
        (RATINGS, "resize", []),
        (RATINGS, "truncate_answer", ["'truncate_answer' is not for dataset 'videophy2': one of error, skip, resize"]),
    ],
)
def test_a_policy_is_checked_against_family_and_dataset(
    recipe: tuple[str, tuple[str, ...]], policy: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATASET_PATH", "VIDEOPHYSICS_ROOT", "BASE_CHECKPOINT_PATH", "WAN_VAE_PATH"):
        monkeypatch.setenv(name, ".")
    config = load(recipe[0], recipe[1], plugins=PLUGINS)
    config = evolve(config, dataloader_train=evolve(config.dataloader_train, overlong=policy))
    problems = list(unsupported_policies(config, PLUGINS))
    assert [f"{problem.message}: {problem.hint}" for problem in problems] == said
    assert {problem.key for problem in problems} <= {"dataloader_train.overlong"}
