"""A trained or base checkpoint -> a diffusers folder, shard by shard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file

from cosmos_core.checkpoint import load_component, stored_tensors
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_vfm.checkpoints.convert import BASE_FILE
from cosmos_vfm.checkpoints.describe import SCHEDULER, to_diffusers_config
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.tiers import NetworkConfig

__all__ = ["ExportRequest", "to_diffusers_folder"]

STEM = "diffusion_pytorch_model"
LIVE, AVERAGED = "net.", "net_ema."


@frozen(kw_only=True)
class ExportRequest:
    """model: DCP folder. base: folder of the converted base, for its configuration and components, if known.

    weights: 'ema' (live ones where no average is kept) or 'live'. dtype: of the floating tensors; None keeps theirs.
    """

    model: Path
    output: Path
    network: NetworkConfig | None
    base: Path | None = None
    weights: str = "ema"
    dtype: torch.dtype | None = None
    shard_bytes: int = 5 * 10**9
    verify: bool = False


def to_diffusers_folder(request: ExportRequest) -> dict[str, str]:
    """Write the folder under a hidden name and rename it; memory holds one shard. Returns facts to print."""
    if request.output.exists():
        raise UserError(f"{request.output} exists already; nothing was exported")
    tensors = stored_tensors(request.model)
    chosen = _choose(tensors, request.weights)
    hidden = request.output.with_name(f".{request.output.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    folder = hidden / "transformer"
    folder.mkdir(parents=True)
    shards = list(_shards(chosen, tensors, request))
    weight_map: dict[str, str] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("exporting", total=len(chosen))
        for number, names in enumerate(shards, start=1):
            file = _file(number, len(shards))
            written = _load(request, {name: chosen[name] for name in names}, tensors)
            save_file(written, folder / file, metadata={"format": "pt"})
            if request.verify:
                _verify(folder / file, written)
            weight_map.update(dict.fromkeys(written, file))
            progress.advance(task, len(names))
    if len(shards) > 1:
        total = sum((folder / file).stat().st_size for file in set(weight_map.values()))
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    carried = _write_configs(hidden, request)
    hidden.rename(request.output)
    averaged = sum(name.startswith(AVERAGED) for name in chosen.values())
    return {
        "exported": str(request.output),
        "weights": f"{averaged} averaged, {len(chosen) - averaged} live tensors",
        "shards": str(len(shards)) + (", verified" if request.verify else ""),
        "components": ", ".join(carried) or "none",
    }


def _choose(tensors: dict[str, Any], weights: str) -> dict[str, str]:
    """diffusers name -> stored name."""
    live = [name for name in tensors if name.startswith(LIVE)]
    if not live:
        problem = Problem(message="no tensor is called net.<...>", hint="is it a generator's checkpoint?")
        raise UserError("there is nothing to export", [problem])
    chosen = {}
    for name in live:
        averaged = AVERAGED + name.removeprefix(LIVE)
        chosen[to_diffusers(name.removeprefix(LIVE))] = averaged if weights == "ema" and averaged in tensors else name
    return chosen


def _dtype(stored: torch.dtype, request: ExportRequest) -> torch.dtype:
    return request.dtype if request.dtype is not None and stored.is_floating_point else stored


def _shards(chosen: dict[str, str], tensors: dict[str, Any], request: ExportRequest) -> Iterator[list[str]]:
    shard: list[str] = []
    used = 0
    for name, stored in chosen.items():
        size, dtype = tensors[stored]
        needed = size.numel() * _dtype(dtype, request).itemsize
        if shard and used + needed > request.shard_bytes:
            yield shard
            shard, used = [], 0
        shard.append(name)
        used += needed
    yield shard


def _file(number: int, count: int) -> str:
    return f"{STEM}.safetensors" if count == 1 else f"{STEM}-{number:05d}-of-{count:05d}.safetensors"


def _load(request: ExportRequest, names: dict[str, str], tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    state: dict[str, Any] = {
        stored: torch.empty(tensors[stored][0], dtype=tensors[stored][1]) for stored in names.values()
    }
    load_component(request.model, state, local_mesh(torch.device("cpu")))
    return {name: state[stored].to(_dtype(state[stored].dtype, request)) for name, stored in names.items()}


def _verify(file: Path, written: dict[str, torch.Tensor]) -> None:
    with safe_open(file, framework="pt") as opened:
        for name, value in written.items():
            if not torch.equal(opened.get_tensor(name), value):
                raise UserError(f"{file} does not hold what was written to it; is the disk sound?")


def _write_configs(hidden: Path, request: ExportRequest) -> list[str]:
    """Configurations, and the base's other components; returns the names of what was carried over."""
    record: dict[str, Any] = {}
    if request.base is not None and (request.base / BASE_FILE).is_file():
        record = json.loads((request.base / BASE_FILE).read_text(encoding="utf-8"))
    config = record.get("config") or (to_diffusers_config(request.network) if request.network else {})
    (hidden / "transformer/config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    carried = []
    for name, path in record.get("components", {}).items():
        if Path(path).is_dir():
            shutil.copytree(path, hidden / name)
            carried.append(name)
    if "scheduler" not in carried:
        (hidden / "scheduler").mkdir()
        (hidden / "scheduler/scheduler_config.json").write_text(
            json.dumps(SCHEDULER, indent=2) + "\n", encoding="utf-8"
        )
    source = Path(record.get("source", "")) / "model_index.json"
    if record and source.is_file():
        shutil.copyfile(source, hidden / "model_index.json")
    return carried
