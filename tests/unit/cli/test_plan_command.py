"""`cosmos plan` needs nothing on disk, and refuses GPUs that it does not know before it imports anything heavy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.command import cosmos

AUTO = "model.activation_checkpointing.mode=auto"
KEYS = {"peak_gib", "items", "fits", "step_seconds", "pinned_gib", "checkpoint_gib", "disk_gib", "hours"}


@pytest.mark.torch
def test_a_plan_needs_neither_data_nor_base_nor_tokenizers() -> None:
    settings = (AUTO, "checkpoint.keep_last=2", "dataloader_train.cache=latents")
    done = cosmos("plan", "vision_sft_nano", "--gpus", "8xH100-80GB", *settings, "--json")
    plan = json.loads(done.stdout)
    assert plan.keys() >= KEYS
    assert plan["peak_gib"] == pytest.approx(sum(plan["items"].values()), abs=0.1)
    assert plan["fits"] is True
    assert plan["change"] == []
    assert plan["mode"] == "full", "what 'auto' takes on eight H100s"
    low, high = plan["step_seconds"]
    assert 0 < low < high
    assert plan["hours"] == pytest.approx(500 * (low + high) / 2 / 3600, abs=0.01)
    assert plan["disk_gib"] == pytest.approx(3 * plan["checkpoint_gib"], abs=0.1)
    assert plan["steps_an_epoch"] is None
    assert plan["lengths"] == "typical sample"
    assert plan["workers"] >= 1


@pytest.mark.torch
def test_a_plan_of_data_that_is_here_goes_by_its_samples_and_of_tiny_sizes_tells_no_seconds(tmp_path: Path) -> None:
    from tests.benchmarks.whole_data import DialogSizes, write_pictures  # Needs torch.

    write_pictures(tmp_path / "data", DialogSizes(70, 96, 64, 4, 6))
    data = f"dataloader_train.dataset.path={tmp_path / 'data'}"
    here = cosmos("plan", "llava_ov_packed", AUTO, data, "--memory", "24GB").stdout
    assert here.startswith("machine: 1x24GB, 22.4 GiB each\n")
    assert "recomputation: full (auto)\n" in here
    assert "cheapest change that fits: --nproc 16\n" in here
    assert "lengths: 64 samples of the data" in here
    assert "a usual sample: a picture of 96x64" in here
    assert "steps an epoch: 4\n" in here
    assert "without more GPUs: model.lora_enabled=true 'optimizer.keys_to_select=[\"lora_\"]'" in here
    few = cosmos("plan", "llava_ov_packed", AUTO, data, "trainer.max_iter=3").stdout
    [seconds] = re.findall(r"^time for 3 steps: about 0:00:(\d\d)$", few, re.MULTILINE)
    assert int(seconds) > 0, "a short run is told in seconds"
    assert re.search(r"^a checkpoint: \d+\.\d MiB$", cosmos("plan", "vision_sft_demo").stdout, re.MULTILINE)
    tiny = json.loads(cosmos("plan", "hello", "--json").stdout)
    assert (tiny["fits"], tiny["step_seconds"], tiny["hours"], tiny["workers"]) == (True, None, None, None)
    assert tiny["lengths"] == "typical sample"
    assert tiny["peak_gib"] == 1.0


@pytest.mark.torch
def test_a_plan_tells_the_warnings_that_a_dry_run_tells(tmp_path: Path) -> None:
    keys = "model.parallelism.fsdp_master_dtype=bfloat16 trainer.max_iter=3000 job.upload_reproducible_setup=true"
    coarse = ("hello", *keys.split())
    dry = cosmos("run", *coarse, "--dry-run", "--json", "--output-root", str(tmp_path))
    told = json.loads(dry.stdout)["warnings"]
    assert len(told) > 1
    plan = cosmos("plan", *coarse, "--json")
    assert json.loads(plan.stdout)["warnings"] == told
    assert "no effect" in plan.stderr
    assert plan.stderr == dry.stderr
    assert f"warning: {told[0]}\n" in cosmos("plan", *coarse).stdout


def test_a_misspelt_gpu_memory_without_a_unit_and_two_machines_are_refused() -> None:
    misspelt = cosmos("plan", "vision_sft_nano", "--gpus", "8xH101", code=2)
    assert "--gpus: '8xH101' is no known kind of GPU; did you mean 'H100'?" in misspelt.stderr
    assert "--memory: '24' has no unit; write 24GB" in cosmos("plan", "hello", "--memory", "24", code=2).stderr
    both = cosmos("plan", "vision_sft_nano", "--gpus", "8xH100-80GB", "--memory", "24GB", code=2)
    assert "--gpus and --memory exclude each other" in both.stderr
    assert "cannot run yet" in cosmos("plan", "videophy2_sft_edge", "checkpoint.load_path=x", code=2).stderr
