"""A shipped recipe as a whole, by the real command: ``python -m tests.benchmarks.whole_recipe vision_sft_nano``.

Random weights of the published sizes and real files are made first, side by side (``--prepare DIR`` alone, or whatever
is missing for ``--run DIR``; without either in a temporary folder). A folder serves all recipes: clips, latents, video
tokenizer and pictures are made once, weights once for each size and depth. Then the recipe runs once for each number of
GPUs and mode of recomputation. Settings are the shipped ones but for places, depth and steps; the generator draws one
sample in one step (``--samples`` keeps the recipe's), and the packs of llava_ov_packed are full. Rows are printed as
they come: phases of the start after the first step, figures before a save or a profile is waited for, and those of the
mode under way when SIGTERM ends the benchmark. A mode that fails is a row, checkpoints are removed after each. The
first mode, the recipe's own, fills the compile cache for the others. ``--profile`` shows what runs on the device in two
more steps, after those that are timed. ``--smoke`` does all of it in small, on any machine.

On a machine without network these packages must be there beside torch, numpy and safetensors: those of `NEEDED`, and
the wheels of cosmos-core and of its plugins, whose entry points name the recipes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.timing import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.whole_inputs import Inputs
    from tests.benchmarks.whole_running import Observed

__all__ = ["main"]

NEEDED = (
    *("attr", "av", "cattrs", "click", "diffusers", "huggingface_hub", "matplotlib", "packaging", "PIL", "pluggy"),
    *("psutil", "rich", "tokenizers", "tomlkit", "transformers", "yaml", "cosmos_vfm", "cosmos_vlm"),
    "cosmos_data_bridge",
)
RECIPES = ("vision_sft_nano", "vision_sft_edge", "vision_sft_super", "llava_ov", "llava_ov_packed")
MODES = ("auto", "none", "selective", "full")
PROFILED = 2
"""Steps of a profile."""
STOP, RESUME = "stop", "resume"
STOP_AFTER = 3
"""Steps before SIGTERM, and of the resumed run."""
EXAMPLES = """examples:
  inputs of three recipes once, at all layers, with latents encoded on four cards:
    whole_recipe vision_sft_nano --prepare DIR --gpus 4 --cached
    whole_recipe vision_sft_super --prepare DIR
    whole_recipe llava_ov_packed --prepare DIR
  figures, with what a save in the background costs; then SIGTERM to every process, and the resumed run:
    whole_recipe vision_sft_nano --run DIR --gpus 4 --cached --modes auto
    whole_recipe vision_sft_nano --run DIR --gpus 4 --cached --modes= --stop auto
  adapters with two processes for each pack, exported from the checkpoint:
    whole_recipe vision_sft_super --run DIR --gpus 4 --cached --modes auto --steps 6 --export
      --set model.parallelism.context_parallel_shard_degree=2 --set trainer.grad_accum_iter=2
  weak scaling:
    whole_recipe vision_sft_nano --run DIR --layers 4 --gpus 1,2,4 --cached --modes none --save none
a checkpoint of all 36 layers of vision_sft_nano takes 128 GB, and 100 GB with --set model.ema.enabled=false;
a resumed run needs space for a second one"""


def main() -> None:
    """Prepare, measure, print."""
    options = _options()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SystemExit(f"these modules are missing: {', '.join(missing)}")
    from tests.benchmarks.whole_inputs import Inputs, prepare

    with tempfile.TemporaryDirectory() as place:
        folder = options.prepare or options.run or Path(place) / "inputs"
        inputs = Inputs(folder.resolve(), options.recipe, options.layers, options.smoke)
        prepare(inputs, max(options.gpus) if options.cached else 0)
        if options.run is not None or options.prepare is None:
            _measure(inputs, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--prepare", type=Path, help="make the inputs in this folder, and stop unless --run is given")
    parser.add_argument("--run", type=Path, help="measure with the inputs in this folder, made where they are missing")
    parser.add_argument("--layers", type=int, help="of the language model or of both towers; absent: all")
    parser.add_argument("--gpus", type=_numbers, default=(1,), help="processes; several numbers, as 1,2,4, in turn")
    parser.add_argument("--modes", default=",".join(MODES), help="of recomputation, with commas; may be empty")
    parser.add_argument("--cached", action="store_true", help="read latents, which `cosmos data cache` encodes first")
    automatic = "keep latents as the runs encode them; name a mode twice to see it with and without encoding"
    parser.add_argument("--cache-auto", action="store_true", help=automatic)
    parser.add_argument("--online", dest="cached", action="store_false", help="encode videos in the step (the default)")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for each mode, its save included")
    saving = "modes that go on after their steps until a save in the background is complete"
    parser.add_argument("--save", choices=("first", "all", "none"), default="first", help=saving)
    stopping = "also SIGTERM every process of a run in this mode, time how it saves and ends, and resume it"
    parser.add_argument("--stop", metavar="MODE", help=stopping)
    parser.add_argument("--export", action="store_true", help="export adapters from what was saved")
    parser.add_argument("--samples", action="store_true", help="draw the samples that the generator's recipe draws")
    parser.add_argument("--set", action="append", default=[], help="another override, KEY=VALUE; may be repeated")
    parser.add_argument("--memory-table", type=Path, help="print planned beside measured memory; add the rows here")
    parser.add_argument("--profile", action="store_true", help="show the kernels of two more steps, by kind")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if (options.cached or options.cache_auto) and options.recipe.startswith("llava"):
        parser.error("--cached, --cache-auto: only the generator has latents")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _measure(inputs: Inputs, options: argparse.Namespace) -> None:
    """Every number of GPUs and mode, and a table at the end."""
    import torch

    from cosmos_core.plugin import PluginManager
    from cosmos_core.recipes import load
    from tests.benchmarks.whole_figures import figures, with_efficiency
    from tests.benchmarks.whole_running import write_bytecode

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"device: {device}; torch {torch.__version__}", flush=True)
    write_bytecode(inputs.folder)
    settings = [*inputs.overrides, *options.set]
    if options.cached:
        settings.append(f"dataloader_train.cache={inputs.latents}")
    if options.cache_auto:
        settings += ["dataloader_train.cache=auto", f"dataloader_train.cache_dir={inputs.folder / 'latent_cache'}"]
        shutil.rmtree(inputs.folder / "latent_cache", ignore_errors=True)
    config = load(inputs.recipe, settings, plugins=PluginManager.discover())
    rows: list[dict[str, Any]] = []
    phases, memory = [], []
    modes = [*filter(None, options.modes.split(",")), *([STOP, RESUME] if options.stop else [])]
    for gpus, mode in ((gpus, mode) for gpus in options.gpus for mode in modes):
        save = mode == STOP or options.save == "all" or (options.save == "first" and not rows)

        def row_of(seen: Observed, mode: str = mode, gpus: int = gpus) -> dict[str, Any]:
            return {"mode": mode, "GPUs": gpus, "outcome": seen.outcome, **figures(seen, options.steps, config, gpus)}

        tell = partial(_tell, f"{inputs.recipe}, {mode}", options.steps, row_of, set())
        seen = _run(inputs, options, settings, gpus, mode, save=save and mode != RESUME, tell=tell)
        row = row_of(seen)
        if options.export and seen.checkpoint_gb is not None:
            row["export s"] = _export(inputs, seen)
        rows.append({**with_efficiency(row, rows), "device": device})
        show(f"{inputs.recipe}, {mode}", rows[-1:])
        phases.append({"mode": mode, "GPUs": gpus, **seen.phases, "first row": seen.first_row or ""})
        if options.memory_table is not None and seen.outcome in ("done", "enough") and mode != RESUME:
            memory.append(_memory(inputs, options, settings, gpus, mode, seen))
        if seen.trace is not None and mode not in (STOP, RESUME):
            _show_profile(f"{inputs.recipe}, {mode}", seen.trace)
        if seen.folder is not None and mode != STOP:
            shutil.rmtree(seen.folder / "checkpoints", ignore_errors=True)  # Many gigabytes each.
    show(f"start of {inputs.recipe}, seconds", phases)
    show(_title(inputs, options), rows)
    if memory:
        shown = [{name: value for name, value in row.items() if not isinstance(value, dict)} for row in memory]
        show("planned and measured memory, GiB", shown)


def _tell(title: str, steps: int, row_of: Callable[[Observed], dict[str, Any]], told: set[str], seen: Observed) -> None:
    """What is known of a run under way: phases of the start, then its row when all steps are made or it is cut."""
    if "start" not in told and ("first step" in seen.phases or seen.outcome):
        told.add("start")
        show(f"start of {title}, seconds", [{**seen.phases, "first row": seen.first_row or ""}])
    if "row" not in told and (len(seen.rows) >= steps or seen.outcome):
        told.add("row")
        row = row_of(seen)
        show(f"{title}, under way", [{**row, "outcome": seen.outcome or "goes on"}])


def _show_profile(title: str, trace: Path) -> None:
    """What ran on rank 0's device in the profiled steps."""
    from tests.benchmarks.whole_profile import by_kind, dearest, kernels_of

    kernels = kernels_of(trace)
    show(f"kernels of {title}", dearest(kernels, PROFILED))
    show(f"kinds of kernels of {title}", by_kind(kernels, PROFILED))


def _run(
    inputs: Inputs,
    options: argparse.Namespace,
    settings: list[str],
    gpus: int,
    mode: str,
    *,
    save: bool,
    tell: Callable[[Observed], None],
) -> Observed:
    """One row. A resumed run is that of the row before."""
    from tests.benchmarks.whole_running import observe

    again, steps = mode in (STOP, RESUME), options.steps
    # A profile is written before the row of the step after it.
    last = steps + (PROFILED + 1 if options.profile else 0)
    settings = [
        *settings,
        f"model.activation_checkpointing.mode={options.stop if again else mode}",
        # It is ended or stopped long before.
        f"trainer.max_iter={100 * steps}",
        # Once, well after the steps that count: memory for saves must have been pinned.
        f"checkpoint.save_iter={100 * steps if again or not save else 2 * last}",
        f"trainer.callbacks.device_monitor.every_n={STOP_AFTER if again else steps}",
    ]
    if inputs.generates and not options.samples:
        samples = "trainer.callbacks.every_n_draw_sample"
        settings += [f"{samples}.steps=1", f"{samples}.count=1", f"{samples}.every_n={100 * steps}"]
    if options.profile and not again:
        profile = "trainer.callbacks.profile"
        settings += [f"{profile}.start={steps + 1}", f"{profile}.steps={PROFILED}"]
    print(f"{inputs.recipe}, {mode}, {gpus} processes", flush=True)
    root = inputs.folder / "runs" / (STOP if again else mode)
    if mode != RESUME:
        shutil.rmtree(root, ignore_errors=True)
    arguments = ("run", inputs.recipe, *settings, "--nproc", str(gpus))
    last, stop_at = (STOP_AFTER, STOP_AFTER if mode == STOP else None) if again else (last, None)
    return observe(arguments, root, steps=last, limit=options.limit, save=save, stop_at=stop_at, tell=tell)


def _export(inputs: Inputs, seen: Observed) -> float:
    """Seconds of the real command that exports adapters alone."""
    begun, folder = time.perf_counter(), inputs.folder / "exported"
    shutil.rmtree(folder, ignore_errors=True)
    command = ("export", str(seen.folder), "-o", str(folder), "--adapter")
    subprocess.run([sys.executable, "-m", "cosmos_core", *command], check=False)
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"exported {sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {len(files)} files", flush=True)
    return time.perf_counter() - begun


def _memory(
    inputs: Inputs, options: argparse.Namespace, settings: list[str], gpus: int, mode: str, seen: Observed
) -> dict[str, Any]:
    """A row of the table of memory, added to the file."""
    import torch

    from tests.benchmarks.memory_table import memory_row

    here = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    card, device = (None, "") if here is None else (here.total_memory / 2**30, here.name)
    settings = [*settings, f"model.activation_checkpointing.mode={mode}"]
    row = memory_row(inputs.recipe, settings, gpus, card, device, seen.measured)
    with options.memory_table.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return row


def _title(inputs: Inputs, options: argparse.Namespace) -> str:
    depth = "all layers" if inputs.layers is None else f"{inputs.layers} layers"
    source = "cache = auto" if options.cache_auto else "cached" if options.cached else "online"
    return f"whole {inputs.recipe}, {depth}, {source}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that no run is left behind on the devices.
    main()
