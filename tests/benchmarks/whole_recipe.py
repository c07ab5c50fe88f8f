"""A shipped recipe as a whole, by the real command: ``python -m tests.benchmarks.whole_recipe vision_sft_nano``.

Random weights of the published sizes and real files are made first (``--prepare DIR`` alone, or in a temporary folder),
then the recipe runs once for each mode of recomputation (``--run DIR``). Settings are the shipped ones but for places,
depth and steps; the generator draws one sample in one step (``--samples`` keeps the recipe's), and the reasoner's packs
are full. Rows are printed as they come, a mode that fails is a row. The first mode fills the compile cache for the
others. ``--smoke`` does all of it in small, on any machine.

On a machine without network these packages must be there beside torch, numpy and safetensors: those of `NEEDED`, and
the wheels of cosmos-core and of its plugins, whose entry points name the recipes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.timing import HARDWARE_TFLOPS, show

if TYPE_CHECKING:
    from tests.benchmarks.whole_inputs import Inputs
    from tests.benchmarks.whole_running import Observed

__all__ = ["main"]

NEEDED = (
    *("attr", "av", "cattrs", "click", "diffusers", "huggingface_hub", "matplotlib", "packaging", "PIL", "pluggy"),
    *("psutil", "rich", "tokenizers", "tomlkit", "transformers", "yaml", "cosmos_vfm", "cosmos_vlm"),
    "cosmos_data_bridge",
)
MODES = ("none", "selective", "full")


def main() -> None:
    """Prepare, measure, print."""
    options = _options()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SystemExit(f"these modules are missing: {', '.join(missing)}")
    from tests.benchmarks.whole_inputs import prepare, read_inputs

    with tempfile.TemporaryDirectory() as place:
        folder = options.prepare or options.run or Path(place) / "inputs"
        layers = 1 if options.smoke and options.layers is None else options.layers
        if options.prepare is not None or options.run is None:
            prepare(folder.resolve(), options.recipe, layers, smoke=options.smoke)
        if options.run is not None or options.prepare is None:
            _measure(read_inputs(folder.resolve()), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", choices=("vision_sft_nano", "llava_ov_packed"))
    parser.add_argument("--prepare", type=Path, help="make the inputs in this folder, and stop unless --run is given")
    parser.add_argument("--run", type=Path, help="measure with the inputs in this folder")
    parser.add_argument("--layers", type=int, help="of the language model or of both towers; absent: all")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--modes", default=",".join(MODES), help="of recomputation, with commas")
    parser.add_argument("--cached", action="store_true", help="read latents, which `cosmos data cache` encodes first")
    automatic = "keep latents as the runs encode them; name a mode twice to see it with and without encoding"
    parser.add_argument("--cache-auto", action="store_true", help=automatic)
    parser.add_argument("--online", dest="cached", action="store_false", help="encode videos in the step (the default)")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for each mode, its save included")
    parser.add_argument("--save", choices=("first", "all", "none"), default="first", help="modes that write their end")
    parser.add_argument("--stop", action="store_true", help="also SIGTERM a run, and time how it saves and ends")
    parser.add_argument("--samples", action="store_true", help="draw the samples that the generator's recipe draws")
    parser.add_argument("--set", action="append", default=[], help="another override, KEY=VALUE; may be repeated")
    parser.add_argument("--memory-table", type=Path, help="print planned beside measured memory; add the rows here")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if (options.cached or options.cache_auto) and options.recipe != "vision_sft_nano":
        parser.error("--cached, --cache-auto: only the generator has latents")
    return options


def _measure(inputs: Inputs, options: argparse.Namespace) -> None:
    """Every mode, and a table at the end."""
    import torch

    from tests.benchmarks.whole_running import with_bytecode

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"device: {options.gpus} x {device}; torch {torch.__version__}", flush=True)
    settings = [*inputs.overrides, *options.set]
    if options.cached:
        settings.append(f"dataloader_train.cache={_latents(inputs, options, settings)}")
    if options.cache_auto:
        settings += ["dataloader_train.cache=auto", f"dataloader_train.cache_dir={inputs.folder / 'latent_cache'}"]
        shutil.rmtree(inputs.folder / "latent_cache", ignore_errors=True)
    rows, phases, memory, packs = [], [], [], _packs(inputs, settings)
    env = with_bytecode(inputs.folder)
    modes = options.modes.split(",")
    for mode in (*modes, *(["stop"] if options.stop else [])):
        save = options.save == "all" or (options.save == "first" and not rows) or mode == "stop"
        seen = _mode(inputs, options, settings, mode, save=save, env=env)
        figures = _figures(seen, options, packs)
        rows.append({"mode": mode, "outcome": seen.outcome, **figures, "device": device})
        phases.append({"mode": mode, **seen.phases, "first row": seen.first_row or ""})
        if options.memory_table is not None and seen.outcome in ("done", "enough"):
            memory.append(_memory(inputs, options, settings, mode, seen))
        if seen.folder is not None:
            shutil.rmtree(seen.folder / "checkpoints")  # Many gigabytes each.
        show(f"{inputs.recipe}, {mode}", rows[-1:])
        show(f"start of {inputs.recipe}, {mode}, seconds", phases[-1:])
    show(f"start of {inputs.recipe}, seconds", phases)
    show(_title(inputs, options), rows)
    shown = [{name: value for name, value in row.items() if not isinstance(value, dict)} for row in memory]
    show("planned and measured memory, GiB", shown)


def _memory(
    inputs: Inputs, options: argparse.Namespace, settings: list[str], mode: str, seen: Observed
) -> dict[str, Any]:
    """A row of the table of memory, added to the file."""
    import torch

    from tests.benchmarks.memory_table import memory_row

    card = torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None
    settings = [*settings, f"model.activation_checkpointing.mode={mode}"]
    row = memory_row(inputs.recipe, settings, options.gpus, card, seen.measured)
    with options.memory_table.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return row


def _title(inputs: Inputs, options: argparse.Namespace) -> str:
    depth = "all layers" if inputs.layers is None else f"{inputs.layers} layers"
    return f"whole {inputs.recipe}, {depth}, {options.gpus} processes, {_source_of_latents(options)}"


def _source_of_latents(options: argparse.Namespace) -> str:
    return "cache = auto" if options.cache_auto else "cached" if options.cached else "online"


def _latents(inputs: Inputs, options: argparse.Namespace, settings: list[str]) -> Path:
    """The folder of latents, filled by the real command if it is not there."""
    folder: Path = inputs.folder / "latents"
    if not folder.is_dir():
        arguments = ("data", "cache", inputs.recipe, *settings, "-o", str(folder), "--nproc", str(options.gpus))
        subprocess.run([sys.executable, "-m", "cosmos_core", *arguments], check=True)
    return folder


def _mode(
    inputs: Inputs, options: argparse.Namespace, settings: list[str], mode: str, *, save: bool, env: dict[str, str]
) -> Observed:
    """One mode, run."""
    from tests.benchmarks.whole_running import observe

    stops = mode == "stop"
    recompute = options.modes.split(",")[-1] if stops else mode
    steps = options.steps
    settings = [
        *settings,
        f"model.activation_checkpointing.mode={recompute}",
        f"trainer.max_iter={10 * steps if stops else steps}",
        # Once, after the last step, so that no step is disturbed.
        f"trainer.callbacks.device_monitor.every_n={steps}",
    ]
    if inputs.recipe == "vision_sft_nano" and not options.samples:
        samples = "trainer.callbacks.every_n_draw_sample"
        settings += [f"{samples}.steps=1", f"{samples}.count=1"]
    print(f"{inputs.recipe}, recomputation {recompute}{', SIGTERM after three steps' if stops else ''}", flush=True)
    root = inputs.folder / "runs" / mode
    shutil.rmtree(root, ignore_errors=True)
    arguments = ("run", inputs.recipe, *settings, "--nproc", str(options.gpus))
    stop_at = 3 if stops else None
    return observe(arguments, root, steps=steps, limit=options.limit, save=save, stop_at=stop_at, env=env)


def _packs(inputs: Inputs, settings: list[str]) -> int:
    """Packs of a step on each device."""
    from cosmos_core.plugin import PluginManager
    from cosmos_core.recipes import load

    return int(load(inputs.recipe, settings, plugins=PluginManager.discover()).trainer.grad_accum_iter)


def _figures(seen: Observed, options: argparse.Namespace, packs: int) -> dict[str, Any]:
    """Medians over the steps after the first third, which compile and warm up."""
    rows = seen.rows[max(1, options.steps // 3) :]
    columns: dict[str, Any] = {"steps": len(rows)}
    if rows:
        middle = {name: statistics.median(row[name] for row in rows) for name in ("seconds", "data_wait", "tokens")}
        # Tokens and arithmetic of a step go with each other, so their rates are medians of the steps' own.
        busy = [row["tflop"] / row["seconds"] for row in rows]
        working = [row["tflop"] / (row["seconds"] - row["data_wait"]) for row in rows]
        columns |= {
            "s a step": middle["seconds"],
            "s a pack": middle["seconds"] / packs,
            "tokens a step": middle["tokens"],
            "packs filled": statistics.mean(row["pack_filled"] for row in rows),
            "data wait s": middle["data_wait"],
            "data wait %": 100 * sum(row["data_wait"] for row in rows) / sum(row["seconds"] for row in rows),
            **(
                {"cache hits %": 100 * statistics.mean(row["cache_hit_rate"] for row in rows)}
                if options.cache_auto
                else {}
            ),
            "TFLOP a pack": statistics.median(row["tflop"] for row in rows) / packs / options.gpus,
            "MFU %": 100 * statistics.median(busy) / options.gpus / HARDWARE_TFLOPS,
            "MFU % but for data": 100 * statistics.median(working) / options.gpus / HARDWARE_TFLOPS,
        }
    columns["peak GiB"] = ", ".join(f"{value:.1f}" for value in seen.peak_gib)
    columns["first row s"] = seen.first_row or ""
    if (checkpoint := seen.checkpoint) is not None:
        columns |= {"checkpoint GB": checkpoint[0], "save s": checkpoint[1]}
    if seen.asked is not None:
        columns["stopped s after SIGTERM"] = seen.ended - seen.asked
    if seen.outcome not in ("done", "enough", "stopped"):
        columns["why"] = seen.last_words
    return columns


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that no run is left behind on the devices.
    main()
