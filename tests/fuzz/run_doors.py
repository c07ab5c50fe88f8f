"""Doors of runs and converted bases: records, checkpoints, caches, recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from cosmos_core.checkpoint import (
    FrozenBase,
    load_component,
    load_loader_states,
    open_safetensors,
    save_checkpoint,
    stored_keys,
)
from cosmos_core.data.prepared import write_prepared
from cosmos_core.distributed import local_mesh
from cosmos_core.plan.base import read_base, write_base
from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.manifest import damage, verify
from cosmos_core.plan.trained import trained_by, write_launch
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.find import find_recipe
from cosmos_core.recipes.loading import load
from cosmos_core.recipes.peek import peek
from cosmos_vfm.cache import Cached, LatentCache
from cosmos_vfm.generate.prompt_file import read_prompts
from tests.fuzz.doors import Door, contents

__all__ = ["run_doors"]

LOADER = {"format": 1, "world": 1, "frontier": 12, "aside": [3, 5]}
IDENTITY = "ab" * 32


def checkpoint(folder: Path) -> None:
    """Everything that a resumed run reads of a checkpoint."""
    (newest,) = folder.glob("iter_*")
    latest_complete(folder)
    trained_by(newest)
    damage(newest)
    verify(newest)
    stored_keys(newest / "model")
    load_component(newest / "model", {"weight": torch.zeros(4)}, local_mesh())
    load_loader_states(newest / "dataloader")


def base(folder: Path) -> None:
    """The records of a converted base, and of an adapter's."""
    read_base(folder)
    if (record := FrozenBase.read(folder)) is not None:
        record.check(folder)


def cached(folder: Path) -> None:
    """A clip of a latent cache."""
    LatentCache(folder, "codec", "text").read(IDENTITY, "a ball")


def recipe(plugins: PluginManager) -> Any:
    """A recipe as `cosmos run` and the lists read it."""

    def enter(folder: Path) -> None:
        peek(folder / "r.toml")
        load(str(folder / "r.toml"), plugins=plugins)

    return enter


def weights(folder: Path) -> None:
    """Every tensor of a file."""
    with open_safetensors(folder / "a.safetensors") as opened:
        for name in opened.keys():  # noqa: SIM118
            opened.get_tensor(name)


def run_doors(folder: Path) -> Iterator[Door]:
    """All of them. folder: where their files are made."""
    written = save_checkpoint(folder / "checkpoints", 1, {"model": {"weight": torch.ones(4)}}, LOADER, local_mesh())
    write_launch(written, 1)
    files = contents(folder / "checkpoints")
    yield Door("checkpoint", files, checkpoint, 6)
    loader = {name: content for name, content in files.items() if "dataloader" in name}
    yield Door("loader state", loader, lambda path: load_loader_states(next(path.glob("*/dataloader"))), 2)
    (folder / "base").mkdir()
    write_base(folder / "base", source_revision="a@b", config={"num_layers": 2})
    FrozenBase(folder=str(folder / "base"), digest="", dcp=True, rank=4, alpha=8, seed=None).write(folder / "base")
    yield Door("base", contents(folder / "base"), base, 3)
    LatentCache(folder / "cache", "codec", "text", create=True).write(
        IDENTITY, Cached(torch.ones(48, 1, 2, 2), "a ball", (1, 2))
    )
    yield Door("latent cache", contents(folder / "cache"), cached, 4)
    write_prepared(folder / "prepared", {"count": 1}, lambda path: None, package="cosmos-core")
    yield Door(
        "prepared folder",
        contents(folder / "prepared"),
        lambda path: write_prepared(path, {"count": 1}, lambda path: None, package="cosmos-core"),
        2,
    )
    text = find_recipe("hello").read_bytes()
    yield Door("recipe", {"r.toml": text}, recipe(PluginManager.discover()), 3)
    yield Door("weights", {"a.safetensors": save({"a": torch.ones(2, 2)}, {"k": "v"})}, weights, 2)
    prompts = [{"prompt": "a ball", "seed": 1, "size": "64x64"}, {"prompt": {"subjects": ["x"]}, "frames": 5}]
    rows = "".join(json.dumps(row) + "\n" for row in prompts).encode()
    yield Door("prompts in JSON", {"p.jsonl": rows}, lambda path: read_prompts(path / "p.jsonl"), 2)
    yield Door(
        "prompts in CSV", {"p.csv": b'prompt,seed\n"a, b",3\nc,\n'}, lambda path: read_prompts(path / "p.csv"), 2
    )
