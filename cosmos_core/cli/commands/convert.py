"""`cosmos convert`: a published checkpoint becomes a base that training starts from."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.errors import UserError
from cosmos_core.plugin.conversions import conversions_to, find_converter
from cosmos_core.plugin.descriptors import Conversion
from cosmos_core.plugin.manager import PluginManager

__all__ = ["convert"]


@click.command("convert")
@click.argument("source")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--to", "target", default="dcp", show_default=True, help="Format to write: dcp, or vlm for a reasoner.")
@click.option("--from", "origin", help="Format of SOURCE; default: found out.")
@click.option("--vision", type=click.Choice(["auto", "qwen", "cosmos"]), default="auto", help="Tower of a reasoner.")
@click.option("--backbone", help="Folder or Hub name that gives a reasoner's tower, configuration and tokenizer.")
@click.pass_obj
def convert(
    plugins: PluginManager,
    source: str,
    output: Path,
    target: str,
    origin: str | None,
    vision: str,
    backbone: str | None,
) -> None:
    """Convert SOURCE: a folder, a name of `cosmos checkpoints list`, or owner/repository[@revision].

    Memory stays small whatever the model's size, and an interrupted conversion continues where it was.

    \b
    Examples:
      cosmos convert Cosmos3-Nano -o examples/checkpoints/Cosmos3-Nano
      cosmos convert ./my_download -o base
      cosmos convert Cosmos3-Nano -o examples/checkpoints/Cosmos3-Nano-VLM --to vlm
    """
    from cosmos_core.hub.reference import locate_checkpoint

    located = locate_checkpoint(source, plugins.registry)
    kind = origin or plugins.identify_checkpoint(located.path)
    if kind is None:
        raise UserError(
            f"{located.path} is no checkpoint that an installed plugin knows", conversions_to(plugins.registry, target)
        )
    spec = find_converter(plugins.registry, kind, target)
    options = {"vision": vision, "backbone": backbone or ""}
    request = Conversion(source=located.path, output=output, origin=located.origin, options=options)
    facts = spec.convert.load()(request)
    for name, text in {"origin": located.origin, **facts}.items():
        click.echo(f"{name}: {text}")
