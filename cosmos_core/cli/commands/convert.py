"""`cosmos convert`: converts a published checkpoint to a base for training."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.errors import UserError
from cosmos_core.plugin.conversions import check_formats, conversions_to, find_converter
from cosmos_core.plugin.descriptors import Conversion
from cosmos_core.plugin.manager import PluginManager

__all__ = ["convert"]


@click.command("convert")
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--to", "target", default="dcp", show_default=True, help="Format to write: dcp, or vlm for a reasoner.")
@click.option("--from", "source_format", help="Format of SOURCE; default: detected.")
@click.option("--vision", type=click.Choice(["auto", "qwen", "cosmos"]), default="auto", help="Tower of a reasoner.")
@click.option("--backbone", help="Folder or Hub name of a reasoner's vision tower, configuration and tokenizer.")
@click.pass_obj
def convert(
    plugins: PluginManager,
    source: str,
    output: Path,
    target: str,
    source_format: str | None,
    vision: str,
    backbone: str | None,
) -> None:
    """Convert SOURCE: a folder, a name of `cosmos checkpoints list`, or owner/repository[@revision].

    Memory use does not grow with the model, and an interrupted conversion continues where it stopped.

    \b
    Examples:
      cosmos convert Cosmos3-Nano -o examples/checkpoints/Cosmos3-Nano
      cosmos convert ./my_download -o base
      cosmos convert Cosmos3-Nano -o examples/checkpoints/Cosmos3-Nano-VLM --to vlm
    """
    from cosmos_core.hub.reference import locate_checkpoint

    check_formats(plugins.registry, source_format, target)
    snapshot = locate_checkpoint(source, plugins.registry)
    kind = source_format or plugins.identify_checkpoint(snapshot.path)
    if kind is None:
        raise UserError(
            f"{snapshot.path} is no checkpoint that an installed plugin knows",
            conversions_to(plugins.registry, target),
        )
    spec = find_converter(plugins.registry, kind, target)
    options = {"vision": vision, "backbone": backbone or ""}
    request = Conversion(source=snapshot.path, output=output, source_revision=snapshot.source_revision, options=options)
    facts = spec.convert.load()(request)
    for name, text in {"origin": snapshot.source_revision, **facts}.items():
        click.echo(f"{name}: {text}")
