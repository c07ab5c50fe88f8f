"""Both reasoner recipes at a tiny size: prepared data, a run that is killed and resumed, an export that talks."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from tests.command import cosmos, losses, rows

SMALL = (
    "model.init=random",
    "model.backbone.model_name=tiny",
    "model.backbone.safetensors_path=null",
    "model.precision=float32",
    "model.image_min_pixels=1024",
    "model.parallelism.data_parallel_shard_degree=-1",
    "model.parallelism.data_parallel_replicate_degree=1",
    "optimizer.lr=1e-3",
    "trainer.max_iter=16",
    "trainer.grad_accum_iter=2",
    "checkpoint.save_iter=4",
    "scheduler.cycle_lengths=[16]",
    "scheduler.warm_up_steps=[2]",
    "dataloader_train.max_sequence_length=600",
    "dataloader_train.num_workers=1",
)
RECIPES = {
    "videophy2_sft_nano": "vlm_videophy2_sft/videophy2_sft_nano",
    "llava_ov": "vlm_llava_ov_demo/pre_exp012_llava_ov",
}


def pictures(folder: Path) -> None:
    """LLaVA-OneVision's schema: a coloured square, and its colour as the answer."""
    found = []
    for number, (name, color) in enumerate(
        {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}.items()
    ):
        for copy in range(8):
            data = io.BytesIO()
            Image.new("RGB", (64, 64 + 32 * (copy % 2)), color).save(data, "PNG")
            said = [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": name}]
            image = {"bytes": data.getvalue(), "path": None}
            found.append({"id": f"{number}-{copy}", "image": image, "conversations": said, "data_source": "drawn"})
    folder.mkdir()
    np.random.default_rng(0).shuffle(found)  # type: ignore[arg-type]
    pq.write_table(pa.Table.from_pylist(found), folder / "train-0.parquet", row_group_size=5)


def options(recipe: str, place: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    if recipe == "llava_ov":
        return (f"dataloader_train.dataset.path={place / 'pictures'}",), {}
    scored = ("trainer.validation_iter=16", "dataloader_val.max_sequence_length=600", "model.answer_tokens=1")
    return scored, {"VIDEOPHYSICS_ROOT": str(place / "physics")}


@pytest.mark.ranks
@pytest.mark.parametrize("recipe", RECIPES)
def test_prepared_killed_resumed_validated_exported(recipe: str, tmp_path: Path) -> None:
    if recipe == "llava_ov":
        pictures(tmp_path / "pictures")
    else:
        cosmos("data", "prepare", "videophy2", "--synthetic", "40", "--val", "10", "-o", str(tmp_path / "physics"))
    more, environment = options(recipe, tmp_path)

    def command(root: str) -> tuple[str, ...]:
        return ("run", recipe, "--output-root", str(tmp_path / root), *SMALL, *more)

    kill_after_a_save(command("killed"), environment, tmp_path / "killed/cosmos3" / RECIPES[recipe])
    assert "resume from" in cosmos(*command("killed"), env=environment).stderr
    cosmos(*command("whole"), env=environment)
    killed, whole = (tmp_path / root / "cosmos3" / RECIPES[recipe] for root in ("killed", "whole"))
    assert losses(killed) == losses(whole)
    assert sorted(losses(whole)) == list(range(1, 17))
    if recipe == "videophy2_sft_nano":
        figures = [row for row in rows(killed) if "val_loss" in row]
        assert figures[-1]["accuracy"] >= 0
        assert figures[-1]["val_loss"] < figures[0]["val_loss"]
        assert "accuracy: " in cosmos("eval", str(killed), env=environment).stdout
    cosmos("export", str(killed), "-o", str(tmp_path / "out"))
    assert says_something(tmp_path / "out")


def kill_after_a_save(arguments: tuple[str, ...], environment: dict[str, str], run_dir: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cosmos_core", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (run_dir / "checkpoints/latest_checkpoint.txt").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def says_something(folder: Path) -> Any:
    model, report = Qwen3VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Which colour?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return model.generate(**prompt, max_new_tokens=2, do_sample=False).shape[1] > prompt["input_ids"].shape[1]
