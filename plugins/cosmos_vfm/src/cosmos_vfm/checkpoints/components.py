"""Components of a published folder other than the transformer: copied into the base, and from there into an export.

The base has copies because the download may be deleted, or on another machine, when a run is exported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cosmos_core.checkpoint import open_safetensors, read_weight_map
from cosmos_core.errors import UserError
from cosmos_core.strict_json import read_object
from cosmos_vfm.checkpoints.diffusers_config import native_scheduler
from cosmos_vfm.checkpoints.published import COMPONENTS, Published

__all__ = ["copy_components", "store_components", "write_json"]

FOLDER = "components"
"""Folder in a base, beside ``model/``."""
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
INDEX = "model.safetensors.index.json"
PIPELINE = "model_index.json"
ROOT_FILES = ("*.json", "*.txt", "*.jinja")
"""Pipeline index, processor and tokenizer files. Weights are in folders."""


def store_components(published: Published, base: Path) -> list[str]:
    """Copy everything but the transformer into a base. Returns the names of the folders."""
    target = base / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    for name, folder in published.components.items():
        shutil.copytree(folder, target / name)
    if published.root != published.folder:
        _copy_root_files(published.root, target)
    return list(published.components)


def copy_components(base: Path | None, output: Path, *, shift: float, given: Mapping[str, Path]) -> list[str]:
    """Copy the components of a base into an export that already has its weights. Returns the names of the folders.

    given: folders of components that a base without them leaves out. Without a scheduler the export gets the native
    one, with this shift. It gets a pipeline index if all parts are there. If the base had an index over all weights, a
    new one is written.
    """
    source = base / FOLDER if base is not None else None
    names = [name for name in COMPONENTS if source is not None and (source / name).is_dir()]
    if source is not None and source.is_dir():
        for name in names:
            shutil.copytree(source / name, output / name)
        # The weight index and the pipeline index name folders that a bare export does not have.
        _copy_root_files(source, output, exclude=() if (output / "transformer").is_dir() else (INDEX, PIPELINE))
    for name, folder in given.items():
        if name not in names:
            # The tokenizer may lie beside the weights of the model that it is from.
            ignored = () if name == "vae" else WEIGHTS
            shutil.copytree(folder, output / name, ignore=shutil.ignore_patterns(*ignored))
            names.append(name)
    if "scheduler" not in names:
        (output / "scheduler").mkdir()
        write_json(output / "scheduler/scheduler_config.json", native_scheduler(shift))
    if (output / "transformer").is_dir():
        if (output / INDEX).is_file():
            _rewrite_index(output)
        if not (output / PIPELINE).exists() and {"vae", "text_tokenizer"} <= set(names):
            write_json(output / PIPELINE, _pipeline_index(output))
    return names


def _pipeline_index(output: Path) -> dict[str, Any]:
    """model_index.json of diffusers, for a base that had the parts without it. Training uses no system prompt."""
    tokenizer_file = output / "text_tokenizer/tokenizer_config.json"
    tokenizer = read_object(tokenizer_file) if tokenizer_file.is_file() else {}
    scheduler = read_object(output / "scheduler/scheduler_config.json")
    return {
        "_class_name": "Cosmos3OmniPipeline",
        "transformer": ["diffusers", "Cosmos3OmniTransformer"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_tokenizer": ["transformers", tokenizer.get("tokenizer_class", "PreTrainedTokenizerFast")],
        "default_use_system_prompt": False,
        "use_native_flow_schedule": True,
    }


def _copy_root_files(source: Path, target: Path, exclude: Collection[str] = ()) -> None:
    """Copy root files that `target` lacks. exclude: names to leave out."""
    target.mkdir(exist_ok=True)
    for path in sorted({path for pattern in ROOT_FILES for path in source.glob(pattern)}):
        if path.name not in exclude and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _rewrite_index(output: Path) -> None:
    """Index of the folders that the old index names, or of the transformer if the old one is damaged."""
    try:
        old = read_weight_map(output / INDEX)
    except UserError:
        old = {"": "transformer"}
    folders = {name.partition("/")[0] for name in old.values()}
    files = [file for folder in sorted(folders) for file in sorted((output / folder).glob("*.safetensors"))]
    weight_map = {}
    for file in files:
        with open_safetensors(file) as opened:
            weight_map.update(dict.fromkeys(opened.keys(), str(file.relative_to(output))))
    total = sum(file.stat().st_size for file in files)
    write_json(output / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Indented, with a final newline."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
