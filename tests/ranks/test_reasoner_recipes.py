"""Reasoner recipes at a tiny size: prepared data, a run that is killed and resumed, an export that talks."""

from __future__ import annotations

import io
import json
import os
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

import cosmos_vlm
from cosmos_data_videophy.scoring import rating
from tests.command import Start, cosmos, losses, metric_records, module
from tests.fake_hub import serving

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
TINY = Path(cosmos_vlm.__file__).parent / "backbones/tiny"
RECIPES = {
    "videophy2_packed_nano": "vlm_videophy2_sft/videophy2_packed_nano",
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
    folder.mkdir(parents=True)
    np.random.default_rng(0).shuffle(found)  # type: ignore[arg-type]
    pq.write_table(pa.Table.from_pylist(found), folder / "train-0.parquet", row_group_size=5)


def options(recipe: str, place: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    if recipe == "llava_ov":
        return (f"dataloader_train.dataset.path={place / 'pictures'}",), {}
    scored = ("trainer.validation_iter=16", "dataloader_val.max_sequence_length=600", "model.max_new_tokens=1")
    return scored, {"VIDEOPHYSICS_ROOT": str(place / "physics")}


@pytest.mark.ranks
@pytest.mark.parametrize("recipe", RECIPES)
def test_prepared_killed_resumed_validated_exported(recipe: str, tmp_path: Path, start: Start) -> None:
    if recipe == "llava_ov":
        pictures(tmp_path / "pictures")
    else:
        cosmos("data", "prepare", "videophy2", "--synthetic", "40", "--val", "10", "-o", str(tmp_path / "physics"))
    more, environment = options(recipe, tmp_path)

    def command(root: str) -> tuple[str, ...]:
        return ("run", recipe, "--output-root", str(tmp_path / root), *SMALL, *more)

    killed = start(*command("killed"), env=environment, forked=True)
    kill_after_a_save(killed, tmp_path / "killed/cosmos3" / RECIPES[recipe])
    assert "resume from" in cosmos(*command("killed"), env=environment).stderr
    cosmos(*command("whole"), env=environment)
    resumed, whole = (tmp_path / root / "cosmos3" / RECIPES[recipe] for root in ("killed", "whole"))
    assert losses(resumed) == losses(whole)
    assert sorted(losses(whole)) == list(range(1, 17))
    if recipe == "videophy2_packed_nano":
        validated = [record for record in metric_records(resumed) if "val_loss" in record]
        assert validated[-1]["val_loss"] < validated[0]["val_loss"]
        for record in validated:
            assert_counted(
                record, resumed / f"validation/step_{record['step']:09d}", tmp_path / "physics/videophy2_val"
            )
        evaluated = json.loads(cosmos("eval", str(resumed), "--json", env=environment).stdout)
        assert_counted(evaluated, resumed / "evaluation", tmp_path / "physics/videophy2_val")
        assert evaluated == {name: pytest.approx(validated[-1][name], rel=1e-5) for name in evaluated}
    cosmos("export", str(resumed), "-o", str(tmp_path / "out"))
    assert says_something(tmp_path / "out")
    for carried in TINY.iterdir():
        if carried.name not in ("config.json", "preprocessor_config.json", "video_preprocessor_config.json"):
            assert (tmp_path / "out" / carried.name).read_bytes() == carried.read_bytes(), carried.name


def assert_counted(figures: dict[str, Any], folder: Path, data: Path) -> None:
    """The figures are those of the answers that were written down, one to each of the data's questions."""
    answers = {record["key"]: record for record in map(json.loads, (folder / "answers.jsonl").read_text().splitlines())}
    entries = {entry["id"]: entry for entry in json.loads((data / "meta.json").read_text())}
    assert answers.keys() == entries.keys()
    for key, entry in entries.items():
        said = json.loads((data / entry["conversation"]).read_text())["conversations"][-1]["content"][0]["text"]
        assert (answers[key]["reference"], answers[key]["category"]) == (said, entry["category"])
        answers[key] = {name: rating(answers[key][name]) for name in ("prediction", "reference")}
    groups = {"": list(answers.values())}
    for entry in entries.values():
        groups.setdefault(f"_{entry['category']}", []).append(answers[entry["id"]])
    assert len(groups) == 3
    for name, group in groups.items():
        assert figures[f"accuracy{name}"] == pytest.approx(
            sum(a["prediction"] == a["reference"] for a in group) / len(group)
        )
        errors = [
            abs(answer["prediction"] - answer["reference"]) for answer in group if answer["prediction"] is not None
        ]
        assert (f"mean_absolute_error{name}" in figures) == bool(errors)
        if errors:
            assert figures[f"mean_absolute_error{name}"] == pytest.approx(sum(errors) / len(errors))
    assert figures["unreadable"] == sum(answer["prediction"] is None for answer in answers.values()) / len(answers)


@pytest.mark.ranks
def test_ranks_that_see_different_data_are_refused(tmp_path: Path) -> None:
    """As on two machines whose copies are not alike; here each rank starts in a folder of its own."""
    for rank in range(2):
        pictures(tmp_path / f"{rank}/pictures")
    pictures(tmp_path / "1/pictures/more")
    start = tmp_path / "start.py"
    start.write_text("import os\nos.chdir(os.environ['RANK'])\nfrom cosmos_core.cli.main import main\nmain()\n")
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(start), "run", "llava_ov")
    more = (*SMALL, "dataloader_train.dataset.path=pictures", "--output-root", str(tmp_path / "runs"))
    refused = module(*torchrun, *more, cwd=tmp_path, code=1).stderr
    assert "the ranks see different data; nothing was started" in refused
    assert "sees 48 rows" in refused
    assert "dataloader_train.dataset" in refused


@pytest.mark.ranks
def test_a_stream_that_was_killed_and_resumed_equals_the_local_copy(tmp_path: Path, start: Start) -> None:
    """From the Hub, by two ranks with workers, over a network that fails now and then."""
    pictures(tmp_path / "hub/drawn")
    (tmp_path / "hub/README.md").write_text(
        "---\nconfigs:\n- config_name: drawn\n  data_files:\n  - split: train\n    path: drawn/train-*\n---\n"
    )

    def command(root: str, *more: str) -> tuple[str, ...]:
        return ("run", "llava_ov", "--nproc", "2", "--output-root", str(tmp_path / root), *SMALL, *more)

    stream = command("stream", "dataloader_train.dataset.subset=drawn")
    run_dir = tmp_path / "stream/cosmos3" / RECIPES["llava_ov"]
    with serving(tmp_path / "hub", "lmms-lab/LLaVA-OneVision-Data") as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        hub.faults = 2
        kill_after_a_save(start(*stream, env=environment), run_dir)
        resumed = subprocess.run(
            [sys.executable, "-m", "cosmos_core", *stream],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert resumed.returncode == 0, resumed.stderr
    assert "resume from" in resumed.stderr
    cosmos(*command("local", f"dataloader_train.dataset.path={tmp_path / 'hub/drawn'}"))
    assert losses(run_dir) == losses(tmp_path / "local/cosmos3" / RECIPES["llava_ov"])
    assert sorted(losses(run_dir)) == list(range(1, 17))


def kill_after_a_save(process: subprocess.Popen[str], run_dir: Path) -> None:
    deadline = time.monotonic() + 120
    while not (run_dir / "checkpoints/latest_checkpoint.txt").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()


def says_something(folder: Path) -> Any:
    model, report = Qwen3VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Which colour?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return model.generate(**prompt, max_new_tokens=2, do_sample=False).shape[1] > prompt["input_ids"].shape[1]
