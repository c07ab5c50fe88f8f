"""`trainer.deterministic`: torch's flags hold during a run and return, and what cannot repeat is refused by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend

import cosmos_core as cosmos
from cosmos_core.attention import describe_kernels, kernels, sdpa_backends
from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.config.problems import render
from cosmos_core.train.determinism import deterministic_kernels

RUN = {
    "trainer.max_iter": 4,
    "scheduler.cycle_lengths": [4],
    "scheduler.warm_up_steps": [1],
    "trainer.deterministic": True,
    "dataloader_train.num_workers": 2,
    "dataloader_train.dataset.broken": 9,
    "dataloader_train.max_bad_sample_fraction": 0.5,
    "model.noise": 0.3,
}
WORKSPACES = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the variable, before and after."""
    monkeypatch.delenv(WORKSPACES, raising=False)
    yield
    os.environ.pop(WORKSPACES, None)


def flags() -> dict[str, Any]:
    return {
        "mode": torch.get_deterministic_debug_mode(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "cudnn attention": torch.backends.cuda.cudnn_sdp_enabled(),
    }


def test_a_run_repeats_to_the_last_bit_under_flags_that_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With loader workers and samples that cannot be read."""
    before, seen, step = flags(), [], TinyFamily.training_step

    def noting(*arguments: Any) -> Any:
        seen.append(flags() | {"workspaces": os.environ.get(WORKSPACES)})
        return step(*arguments)

    monkeypatch.setattr(TinyFamily, "training_step", noting)
    runs = [cosmos.train("hello", RUN, output_root=tmp_path, fresh=True) for _ in range(2)]
    told = [[(row["loss"], row["grad_norm"]) for row in run.metrics if "loss" in row] for run in runs]
    assert len(told[0]) == 4
    assert told[0] == told[1]
    weights = [sorted((run.run_dir / "checkpoints/iter_000000004/model").glob("*.distcp")) for run in runs]
    assert [path.read_bytes() for path in weights[0]] == [path.read_bytes() for path in weights[1]]
    assert flags() == before
    assert before["mode"] == 0
    expected = {"mode": 2, "fills": False, "cudnn": (True, False), "cudnn attention": False, "workspaces": ":4096:8"}
    assert seen == [expected] * 8


def test_an_operator_that_cannot_repeat_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def putting(*arguments: Any) -> Any:
        return torch.zeros(4).put_(torch.tensor([1]), torch.ones(1))

    monkeypatch.setattr(TinyFamily, "training_step", putting)
    with pytest.raises(cosmos.UserError) as refusal:
        cosmos.train("hello", RUN, output_root=tmp_path)
    assert "trainer.deterministic: 'put_' has no deterministic kernel on this device" in render(refusal.value)
    assert torch.get_deterministic_debug_mode() == 0


def test_cuda_that_runs_already_without_fixed_workspaces_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(cosmos.UserError, match="would not repeat") as refusal:
        cosmos.train("hello", RUN, output_root=tmp_path)
    assert "start Python with CUBLAS_WORKSPACE_CONFIG=:4096:8" in render(refusal.value)
    monkeypatch.setenv(WORKSPACES, ":16:8")
    with deterministic_kernels(True):
        assert os.environ[WORKSPACES] == ":16:8"


def test_workspaces_that_do_not_repeat_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSPACES, ":0:0")
    with pytest.raises(cosmos.UserError) as refusal:
        cosmos.train("hello", RUN, output_root=tmp_path)
    assert "trainer.deterministic: needs fixed workspaces of cuBLAS" in render(refusal.value)
    assert not list(tmp_path.iterdir())


def test_cudnns_attention_is_left_out_on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda", 7)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(kernels.RaggedHeads, "supported", True)
    with FakeTensorMode():
        queries = torch.empty(4, 2, 64, device=card)
    kernels._is_hopper.cache_clear()
    try:
        assert sdpa_backends(card)[0] == SDPBackend.CUDNN_ATTENTION
        assert describe_kernels(card).startswith("cuDNN")
        assert kernels.has_ragged_attention(queries, queries)
        with deterministic_kernels(True):
            assert SDPBackend.CUDNN_ATTENTION not in sdpa_backends(card)
            assert describe_kernels(card).startswith("FlashAttention")
            assert not kernels.has_ragged_attention(queries, queries)
    finally:
        kernels._is_hopper.cache_clear()
