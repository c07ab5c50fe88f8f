"""Validation on data that does not score: a few answers are written, with the words of the model and of the data."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cosmos_core.config import DataloaderConfig
from cosmos_core.data import PackedLoader, Preparation
from cosmos_core.distributed import local_mesh
from cosmos_core.train.validate import Evaluation, evaluate
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.llava_onevision import LlavaSource
from tests.tiny_reasoner import family_of, network_of, write_reasoner

ROWS = 7


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone, and a local copy of seven questions about a picture."""
    root = tmp_path_factory.mktemp("place")
    write_reasoner(root / "tiny")
    (root / "data").mkdir()
    Image.new("RGB", (32, 32)).save(root / "data/picture.png")
    said = [{"from": "human", "value": "<image>\nWhat is it?"}]
    rows = [
        {
            "id": f"row{number}",
            "image": "picture.png",
            "conversations": [*said, {"from": "gpt", "value": f"№ {number}"}],
        }
        for number in range(ROWS)
    ]
    (root / "data/rows.json").write_text(json.dumps(rows))
    return root


def validated(place: Path, folder: Path, **options: Any) -> tuple[dict[str, float], list[dict[str, str]]]:
    """Figures and written answers."""
    family = family_of(place / "tiny", **options)
    data = LlavaConfig(type="llava_ov", path=str(place / "data"))
    config = DataloaderConfig(dataset=data, max_samples_per_batch=2, num_workers=0, shuffle=False)
    preparation = Preparation(family.prepare, family.num_tokens, family.kind)
    loader = PackedLoader(
        LlavaSource(data),
        config=config,
        preparation=preparation,
        rank=0,
        world=1,
        epochs=1,
        cap=None,
        section="dataloader_val",
    )
    mesh = local_mesh(torch.device("cpu"))
    task = Evaluation(
        family=family,
        model=network_of(family),
        loader=loader,
        mesh=mesh,
        seed=0,
        weights=nullcontext,
        folder=folder / "out",
        limit=None,
        num_answers=family.num_sample_answers,
    )
    figures = evaluate(task).metrics
    file = folder / "out/answers.jsonl"
    return figures, [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_few_answers_are_written_with_key_and_wanted_words(place: Path, tmp_path: Path) -> None:
    figures, answers = validated(place, tmp_path, max_new_tokens=3, num_sample_answers=3)
    assert [answer["key"] for answer in answers] == ["row0", "row1", "row2"]
    assert [answer["reference"] for answer in answers] == ["№ 0", "№ 1", "№ 2"]
    assert any(answer["prediction"] for answer in answers)
    assert figures.keys() == {"val_loss"}


def test_no_more_than_there_are_and_every_sample_counts_in_the_loss(place: Path, tmp_path: Path) -> None:
    with_answers, answers = validated(place, tmp_path, max_new_tokens=1, num_sample_answers=100)
    assert len(answers) == ROWS
    assert with_answers == validated(place, tmp_path / "none")[0]


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"max_new_tokens": 2, "num_sample_answers": 0}])
def test_without_tokens_or_samples_nothing_is_written(place: Path, tmp_path: Path, options: dict[str, int]) -> None:
    assert validated(place, tmp_path, **options)[1] == []
