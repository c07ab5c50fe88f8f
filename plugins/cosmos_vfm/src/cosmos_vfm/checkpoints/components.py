"""What lies beside the transformer in a published folder, on its way through a base into an export.

A base keeps copies: the download may be gone, or on another machine, when a run is exported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cosmos_core.checkpoint import opened_safetensors, read_weight_map
from cosmos_core.errors import UserError
from cosmos_vfm.checkpoints.describe import native_scheduler
from cosmos_vfm.checkpoints.published import COMPONENTS, Published

__all__ = ["carry_over", "keep_components", "write_json"]

FOLDER = "components"
"""Of a base, beside ``model/``."""
INDEX = "model.safetensors.index.json"
PIPELINE = "model_index.json"
ROOT_FILES = ("*.json", "*.txt", "*.jinja")
"""Pipeline index, processor and tokenizer files; weights lie in folders."""


def keep_components(published: Published, base: Path) -> list[str]:
    """Copy everything but the transformer into a base; returns the folders' names."""
    kept = base / FOLDER
    shutil.rmtree(kept, ignore_errors=True)
    for name, folder in published.components.items():
        shutil.copytree(folder, kept / name)
    if published.root != published.folder:
        _copy_root_files(published.root, kept)
    return list(published.components)


def carry_over(base: Path | None, output: Path, *, shift: float) -> list[str]:
    """Copy a base's components into an export that has its weights; returns the folders' names.

    Without a scheduler it gets the native one, with this shift; a pipeline's index when all that one names is there. An
    index over all weights is written anew where the base had one.
    """
    kept = base / FOLDER if base is not None else None
    names = [name for name in COMPONENTS if kept is not None and (kept / name).is_dir()]
    if kept is not None and kept.is_dir():
        for name in names:
            shutil.copytree(kept / name, output / name)
        # An index of folders, and a pipeline's, mean nothing to a bare export, which has no such folders.
        _copy_root_files(kept, output, but=() if (output / "transformer").is_dir() else (INDEX, PIPELINE))
    if "scheduler" not in names:
        (output / "scheduler").mkdir()
        write_json(output / "scheduler/scheduler_config.json", native_scheduler(shift))
    if (output / "transformer").is_dir():
        if (output / INDEX).is_file():
            _index_anew(output)
        if not (output / PIPELINE).exists() and {"vae", "text_tokenizer"} <= set(names):
            write_json(output / PIPELINE, _pipeline(output))
    return names


def _pipeline(output: Path) -> dict[str, Any]:
    """Of diffusers, for a base that brought the parts without their index. Training knows no system prompt."""
    tokenizer = output / "text_tokenizer/tokenizer_config.json"
    said = json.loads(tokenizer.read_text(encoding="utf-8")) if tokenizer.is_file() else {}
    scheduler = json.loads((output / "scheduler/scheduler_config.json").read_text(encoding="utf-8"))
    return {
        "_class_name": "Cosmos3OmniPipeline",
        "transformer": ["diffusers", "Cosmos3OmniTransformer"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_tokenizer": ["transformers", said.get("tokenizer_class", "PreTrainedTokenizerFast")],
        "default_use_system_prompt": False,
        "use_native_flow_schedule": True,
    }


def _copy_root_files(source: Path, target: Path, but: Collection[str] = ()) -> None:
    """Those that `target` has not. but: names to leave out."""
    target.mkdir(exist_ok=True)
    for path in sorted({path for pattern in ROOT_FILES for path in source.glob(pattern)}):
        if path.name not in but and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _index_anew(output: Path) -> None:
    """Tensor -> shard of the folders that the old index spoke of; of the transformer's when that one is damaged."""
    try:
        old = read_weight_map(output / INDEX)
    except UserError:
        old = {"": "transformer"}
    folders = {name.partition("/")[0] for name in old.values()}
    files = [file for folder in sorted(folders) for file in sorted((output / folder).glob("*.safetensors"))]
    weight_map = {}
    for file in files:
        with opened_safetensors(file) as opened:
            weight_map.update(dict.fromkeys(opened.keys(), str(file.relative_to(output))))
    total = sum(file.stat().st_size for file in files)
    write_json(output / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Indented, with a line's end."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
