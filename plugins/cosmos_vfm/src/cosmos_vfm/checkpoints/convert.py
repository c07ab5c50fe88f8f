"""Published layout -> a base checkpoint that training starts from, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

from rich.progress import Progress

from cosmos_core.checkpoint import DcpWriter, fingerprint
from cosmos_core.errors import UserError
from cosmos_core.plan import BASE_FILE
from cosmos_vfm.checkpoints.components import keep_components
from cosmos_vfm.checkpoints.describe import matching_tier
from cosmos_vfm.checkpoints.published import open_published

__all__ = ["to_dcp"]


def to_dcp(source: Path, output: Path, *, origin: str = "") -> dict[str, str]:
    """Write `output`/model as DCP with ``net.`` names, and copies of the source's other components; returns facts.

    origin: repository and commit of the source, for the record. Memory holds one tensor at a time. An interrupted
    conversion continues with the shards it lacks; `output` appears when it is whole. Raises UserError for an unknown
    layout, for damaged shards, or when `output` exists.
    """
    if output.exists():
        raise UserError(f"{output} exists already; nothing was converted")
    published = open_published(source)
    hidden = output.with_name(f".{output.name}.partial")
    writer = DcpWriter(hidden / "model")
    with Progress(transient=True) as progress:
        task = progress.add_task("converting", total=sum(file.stat().st_size for file in published.files))
        for number, file in enumerate(published.files):
            of = fingerprint(file.parent, file.name)
            if not writer.has(number, of):
                writer.write(number, published.tensors(file), of=of)
            progress.advance(task, file.stat().st_size)
    writer.finish(len(published.files))
    components = keep_components(published, hidden)
    record = {"format": "cosmos3", "origin": origin or str(published.root.resolve()), "config": published.config}
    (hidden / BASE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    hidden.rename(output)
    tier = matching_tier(published.config)
    return {
        "checkpoint": str(output),
        "shards": str(len(published.files)),
        "tier": tier or "of another size than the released ones",
        "components": ", ".join(components) or "none",
    }
