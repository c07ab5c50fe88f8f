"""`cosmos plan` needs nothing on disk, and refuses GPUs that it does not know before it imports anything heavy."""

from __future__ import annotations

import json

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
    assert plan["mode"] == "selective", "what 'auto' takes on eight H100s"
    low, high = plan["step_seconds"]
    assert 0 < low < high
    assert plan["hours"] == pytest.approx(500 * (low + high) / 2 / 3600, abs=0.01)
    assert plan["disk_gib"] == pytest.approx(3 * plan["checkpoint_gib"], abs=0.1)
    assert plan["steps_an_epoch"] is None


@pytest.mark.torch
def test_a_plan_in_words_names_the_change_that_makes_it_fit() -> None:
    done = cosmos("plan", "vision_sft_nano", AUTO, "--gpus", "2xH100")
    lines = done.stdout.splitlines()
    assert lines[0] == "machine: 2xH100-80GB, 79.2 GiB each"
    assert "recomputation: full (auto)" in lines
    (change,) = [line for line in lines if "cheapest change that fits" in line]
    assert change.endswith(": --nproc 4")


def test_a_family_that_tells_no_costs_a_misspelt_gpu_and_two_machines_are_refused() -> None:
    misspelt = cosmos("plan", "vision_sft_nano", "--gpus", "8xH101", code=2)
    assert "--gpus: '8xH101' is no known kind of GPU; did you mean 'H100'?" in misspelt.stderr
    assert "--memory" in cosmos("plan", "vision_sft_nano", "--gpus", "H100", "--memory", "24GB", code=2).stderr
    assert "does not tell what it costs" in cosmos("plan", "hello", code=2).stderr
