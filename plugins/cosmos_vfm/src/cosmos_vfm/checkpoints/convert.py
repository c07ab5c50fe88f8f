"""Published layout -> a base checkpoint that training starts from, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

from rich.progress import Progress

from cosmos_core.checkpoint import DcpWriter
from cosmos_core.errors import UserError
from cosmos_vfm.checkpoints.describe import matching_tier
from cosmos_vfm.checkpoints.published import open_published

__all__ = ["BASE_FILE", "to_dcp"]

BASE_FILE = "base.json"
"""Beside ``model/``: where the base came from, its configuration, and the components an export carries over."""


def to_dcp(source: Path, output: Path) -> dict[str, str]:
    """Write `output`/model as DCP with ``net.`` names; returns facts to print.

    Memory holds one tensor at a time. An interrupted conversion continues; `output` appears when it is whole. Raises
    UserError for an unknown layout, or when `output` exists.
    """
    if output.exists():
        raise UserError(f"{output} exists already; nothing was converted")
    published = open_published(source)
    hidden = output.with_name(f".{output.name}.partial")
    writer = DcpWriter(hidden / "model")
    with Progress(transient=True) as progress:
        task = progress.add_task("converting", total=sum(file.stat().st_size for file in published.files))
        for number, file in enumerate(published.files):
            if not writer.has(number):
                writer.write(number, published.tensors(file))
            progress.advance(task, file.stat().st_size)
    writer.finish(len(published.files))
    record = {
        "format": "cosmos3",
        "source": str(published.root.resolve()),
        "config": published.config,
        "components": {name: str(Path(path).resolve()) for name, path in published.components.items()},
    }
    (hidden / BASE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    hidden.rename(output)
    tier = matching_tier(published.config)
    return {
        "checkpoint": str(output),
        "shards": str(len(published.files)),
        "tier": tier or "of another size than the released ones",
        "components": ", ".join(published.components) or "none",
    }
