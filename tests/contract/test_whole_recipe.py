"""Whole recipes are measured, in small: what is made trains by the real command, and a failed mode is a row."""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.plan.costs import RESERVE
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from tests.benchmarks import whole_recipe, whole_running
from tests.benchmarks.memory_table import CONSTANTS, QUANTITIES, fit
from tests.benchmarks.whole_figures import figures, with_efficiency
from tests.benchmarks.whole_inputs import Inputs, prepare
from tests.benchmarks.whole_profile import EAGER, by_kind, dearest, kernels_of, kind_of
from tests.benchmarks.whole_running import Observed, observe, write_bytecode
from tests.command import running_children

PHASES = [
    "mode",
    "GPUs",
    "command",
    "imports",
    "devices",
    "data",
    "plan",
    "family",
    "network",
    "weights",
    "callbacks",
    "first step",
]


def tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> dict[str, list[dict[str, Any]]]:
    """What the command prints as JSON lines, by table."""
    monkeypatch.setattr(whole_running, "keeps_bytecode", lambda package: True)  # To write it takes twenty seconds.
    monkeypatch.setattr(whole_recipe, "STOP_AFTER", 2)
    monkeypatch.setattr(sys, "argv", ["whole_recipe", "--smoke", "--limit", "900", *arguments])
    whole_recipe.main()
    found: dict[str, list[dict[str, Any]]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            found.setdefault(row.pop("table"), []).append(row)
    return found


def test_a_run_on_what_is_prepared_is_stopped_and_resumed_and_a_mode_that_fails_is_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("vision_sft_nano", "--layers", "1", "--run", str(tmp_path), "--modes", "wrong", "--steps", "2")
    found = tables(capsys, monkeypatch, *command, "--stop", "none")
    wrong, stop, resume = found["whole vision_sft_nano, 1 layers, online"]
    assert (wrong["mode"], wrong["outcome"], wrong["steps"]) == ("wrong", "exit 2", 0)
    assert wrong["why"].startswith("error: 1 problem in ")
    assert (stop["mode"], stop["outcome"], stop["steps"]) == ("stop", "stopped", 1)
    assert stop["s a step"] == 2 * stop["s a pack"] > stop["data wait s"]
    assert stop["tokens a step"] > 3 * 120
    assert stop["TFLOP a pack"] > 0 < stop["MFU %"]
    assert stop["checkpoint GB"] > 0 < stop["stopped s after SIGTERM"]
    assert (resume["outcome"], resume["first step"] > 2) == ("enough", True)
    start = found["start of vision_sft_nano, seconds"][1]
    assert list(start) == [*PHASES, "first row"]
    assert sum(start[name] for name in PHASES[2:]) <= start["first row"] + 1
    assert not list((tmp_path / "runs").rglob("*.distcp")), "checkpoints are removed"


def test_figures_are_those_of_the_steps_before_a_save_and_tell_what_it_cost(tmp_path: Path) -> None:
    folder = tmp_path / "project/group/name"
    (folder / "launches").mkdir(parents=True)
    saved = "12:00:00 saved /runs/iter_000000003: training waited 0.42 s, 63.1 s in the background\n"
    (tmp_path / "log.txt").write_text("12:00:00 saving iter_000000003 in the background\n" + saved)
    common = {"data_wait": 0.0, "tokens": 1000, "tflop": 989.0, "pack_filled": 1.0}
    rows = [{**common, "step": step, "seconds": seconds} for step, seconds in enumerate((9.0, 2.0, 2.0, 3.0, 3.0), 1)]
    rows[1] |= {"data_wait": 0.2, "rank_wait": 0.15}
    settings = ["trainer.grad_accum_iter=2", "model.parallelism.context_parallel_shard_degree=2"]
    config = load("vision_sft_super", settings, plugins=PluginManager.discover())
    row = figures(Observed(tmp_path, 0.0, outcome="enough", rows=rows), 3, config, 4)
    assert (row["steps"], row["s a pack"], row["s a step while saving"]) == (2, 1.0, 3.0)
    assert (row["training waited s"], row["save s"]) == (0.42, 63.1)
    assert (row["MFU %"], row["TFLOP a pack"], row["tokens/s a GPU"]) == (12.5, 989 / 4, 125.0)
    assert [round(row[name]) for name in ("data wait %", "median %", "for other ranks, % of the wait")] == [5, 5, 75]
    other = {**row, "mode": "none", "tokens/s a GPU": 100.0}
    assert with_efficiency(other, [{**row, "mode": "full"}, {**row, "mode": "none"}])["efficiency %"] == 80.0


def test_the_reasoner_trains_on_what_is_prepared_and_is_ended_after_its_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "inputs")
    tables(capsys, monkeypatch, "llava_ov_packed", "--layers", "1", "--prepare", folder)
    command = (
        "llava_ov_packed",
        "--layers",
        "1",
        "--run",
        folder,
        "--modes",
        "auto",
        "--steps",
        "2",
        "--save",
        "none",
        "--profile",
    )
    rows = tmp_path / "rows.jsonl"
    found = tables(capsys, monkeypatch, *command, "--memory-table", str(rows))
    (row,) = found["whole llava_ov_packed, 1 layers, online"]
    assert row["outcome"] in ("enough", "done")
    assert (row["steps"], row["auto took"]) == (1, "none"), "steps of the profile do not count"
    names = list(found)
    early = names.index("llava_ov_packed, auto, under way")
    assert names[0] == "start of llava_ov_packed, auto, seconds"
    assert early < names.index("llava_ov_packed, auto") < names.index("kinds of kernels of llava_ov_packed, auto")
    assert found[names[early]][0]["s a step"] == row["s a step"] > 0 < row["median %"]
    assert row["TFLOP a pack"] > 0
    assert [kind["kind"] for kind in found["kinds of kernels of llava_ov_packed, auto"]] == ["all", "none ran"]
    (planned,) = map(json.loads, rows.read_text().splitlines())
    assert planned["planned card"] > planned["planned reserved"] > planned["planned allocated"] > 0
    assert planned["slopes"]["EAGER_TENSORS"]["card"] > 0
    with pytest.raises(SystemExit, match="0 measured rows"):
        fit([planned])


def test_kernels_of_a_trace_are_told_by_kind_and_what_overlaps_is_not_alone(tmp_path: Path) -> None:
    names = {
        "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTN": "products",
        "cutlass::device_kernel<flash::FlashAttnFwdSm90<...>>": "attention",
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_32_64x128x128_4x1x1_kernel0_0": "attention",
        "ncclDevKernel_ReduceScatter_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)": "collectives",
        "void at::native::detail::chunk_cat_cuda_kernel<float, c10::BFloat16>": "copies around collectives",
        "triton_per_fused__to_copy_add_mean_mul_pow_rsqrt_3": "elementwise, compiled",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast>": EAGER,
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>": "optimizer and norm",
        "Memset (Device)": "copies and fills",
    }
    assert {name: kind_of(name) for name in names} == names
    product, _, _, collective, *_ = names
    spans = ((product, "kernel", 0, 4000), (collective, "kernel", 2000, 4000), (product, "kernel", 9000, 1000))
    events = [{"ph": "X", "name": name, "cat": cat, "ts": ts, "dur": dur} for name, cat, ts, dur in spans]
    other = {"ph": "X", "name": "aten::mm", "cat": "cpu_op", "ts": 0, "dur": 9e9}
    with gzip.open(tmp_path / "trace_rank0.json.gz", "wt") as file:
        json.dump({"traceEvents": [*events, other, {"ph": "M", "name": "process_name"}]}, file)
    kernels = kernels_of(tmp_path / "trace_rank0.json.gz")
    products, collectives, everything, none = by_kind(kernels, 2)
    assert list(products.values()) == ["products", 1.0, 2.5, 1.5, pytest.approx(500 / 9)]
    assert (collectives["ms a step"], collectives["alone, ms a step"]) == (2.0, 1.0)
    assert (everything["ms a step"], none["ms a step"]) == (4.5, 1.5)
    assert [row["ms a step"] for row in dearest(kernels, 2)] == [2.5, 2.0]


def test_constants_that_made_the_rows_are_found_again_and_a_fit_is_judged_by_rows_that_it_did_not_see() -> None:
    def row(size: float, mode: float) -> dict[str, Any]:
        slopes = dict.fromkeys(CONSTANTS, dict.fromkeys(QUANTITIES, 0.0))
        slopes |= {"RESERVE": {"allocated": 0.0, "reserved": size, "card": size}}
        slopes |= {"WORKING_TENSORS": dict.fromkeys(QUANTITIES, mode)}
        planned = {"allocated": size, "reserved": (1 + RESERVE) * size, "card": (1 + RESERVE) * size + 1}
        # Twice the reserve, and half a working tensor more.
        true = {of: value + 0.5 * mode + (RESERVE * size if of != "allocated" else 0) for of, value in planned.items()}
        return {**{f"planned {of}": value for of, value in planned.items()}, **true, "slopes": slopes}

    found = fit([row(size, mode) for size, mode in ((20, 1), (30, 3), (40, 1), (50, 4), (60, 2), (70, 3))])
    assert found["constants"]["RESERVE"] == (RESERVE, pytest.approx(2 * RESERVE))
    assert found["constants"]["WORKING_TENSORS"] == (3, pytest.approx(3.5))
    assert found["constants"]["EAGER_TENSORS"][0] == found["constants"]["EAGER_TENSORS"][1], "no row depends on it"
    assert found["errors"]["tested"][0] > 0.05
    assert found["errors"]["tested"][1] < 1e-9


def test_bytecode_that_is_missing_is_written_for_the_processes_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rarely_used.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "set, so that it is as before after this test")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX")
    for names in ("PACKAGES", "IMPORTED"):
        monkeypatch.setattr(whole_running, names, ("rarely_used",))
    write_bytecode(tmp_path / "inputs")
    assert len(list((tmp_path / "inputs/bytecode").rglob("rarely_used.*.pyc"))) == 1


def test_a_run_over_its_limit_is_ended_and_says_so(tmp_path: Path) -> None:
    seen = observe(("run", "hello"), tmp_path / "run", steps=60, limit=0.5, save=True)
    assert (seen.outcome, seen.rows, seen.first_row) == ("over the limit", [], None)
    assert seen.ended < 30


def test_a_benchmark_that_must_end_tells_what_is_known_before_it_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []

    def tell(seen: Observed) -> None:
        told.append((seen.outcome, len(running_children("hello"))))

    def ended(seconds: float) -> None:
        sys.exit(143)  # As the handler of SIGTERM.

    monkeypatch.setattr(time, "sleep", ended)
    with pytest.raises(SystemExit, match="143"):
        observe(("run", "hello"), tmp_path / "run", steps=60, limit=60, save=True, tell=tell)
    assert told == [("cut", 1)]
    assert not running_children("hello")


def test_recipes_and_sizes_share_a_folder_and_each_part_is_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, whole = (Inputs(tmp_path, "vision_sft_nano", layers, smoke=True) for layers in (1, None))
    prepare(cut)
    prepare(whole)
    prepare(Inputs(tmp_path, "vision_sft_super", None, smoke=True))
    made = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("prepared")]
    bases = ["small_base_tiny_1", "small_base_tiny", "small_base_tiny_even"]
    assert made == ["small_tokenizer", "small_clips", "small_vae", *bases]
    # A network of fewer layers starts from all, once these are there.
    assert cut.overrides[1] == whole.overrides[1] == f"checkpoint.load_path={tmp_path / 'small_base_tiny'}"
    assert pickle.loads(pickle.dumps(list(whole.parts.values()))), "processes of their own make the large ones"
