"""What the plugin finds wrong with a planned run, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.errors import Problem, UserError
from cosmos_core.launch.train import plan_run
from cosmos_core.plugin import PluginManager
from tests.command import cosmos

VALIDATION = (
    "trainer.run_validation=true",
    "dataloader_val.max_samples_per_batch=1",
    "dataloader_val.dataset.type=llava_ov",
)


def problems(root: Path, *overrides: str) -> dict[str, Problem]:
    """By key, of the recipe `llava_ov` on the tiny backbone."""
    tiny = ("model.backbone.model_name=tiny", "model.init=random")
    with pytest.raises(UserError) as refused:
        plan_run(
            "llava_ov",
            (*tiny, *overrides),
            plugins=PluginManager.discover(),
            nproc=1,
            default_nproc=1,
            fresh=False,
            output_root=root,
            notify=lambda note: None,
        )
    return {problem.key: problem for problem in refused.value.problems}


@pytest.mark.parametrize("name", ["data.json", "data", "nowhere/data"])
def test_a_local_copy_that_is_not_there_is_found_whatever_its_name_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = problems(tmp_path, f"dataloader_train.dataset.path={name}")
    assert found["dataloader_train.dataset.path"].message == f"no such folder: {name}"


def test_a_file_in_place_of_a_local_copy_names_the_folder_to_give(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("[]")
    problem = problems(tmp_path, f"dataloader_train.dataset.path={tmp_path / 'data.json'}")[
        "dataloader_train.dataset.path"
    ]
    assert problem.message == f"{tmp_path / 'data.json'} is a file"
    assert str(tmp_path) in problem.hint


def test_validation_data_is_looked_at_too_and_both_are_reported(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        *VALIDATION,
        f"dataloader_train.dataset.path={tmp_path / 'no'}",
        f"dataloader_val.dataset.path={tmp_path / 'not'}",
    )
    assert {"dataloader_train.dataset.path", "dataloader_val.dataset.path"} <= found.keys()


def test_a_reasoner_needs_no_word_about_the_average_that_it_lacks(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    parts = ['task = "vlm"\nname = "mine"\n[model]\ninit = "random"\n[model.backbone]\nmodel_name = "tiny"\n']
    parts.append('[dataloader_train]\nmax_samples_per_batch = 1\n[dataloader_train.dataset]\ntype = "videophy2"\n')
    recipe.write_text("[job]\n" + "".join(parts) + f'path = "{tmp_path}"\n')
    said = cosmos("run", str(recipe), "--dry-run", code=2).stderr
    assert "model.ema" not in said
    assert "the reasoner keeps no average" in cosmos("run", str(recipe), "model.ema.enabled=true", code=2).stderr
