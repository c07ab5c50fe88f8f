"""`cosmos convert`: converts a published checkpoint to a base for training."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import checkpoint_names, converter_sources, converter_targets
from cosmos_core.cli.options import json_option
from cosmos_core.cli.output import print_facts
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.source import identify
from cosmos_core.plugin.conversions import check_formats, conversions_to, find_converter
from cosmos_core.plugin.descriptors import Conversion, ConverterSpec, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["convert"]


@click.command("convert")
@click.argument("source", shell_complete=checkpoint_names)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--to",
    "target",
    default="dcp",
    show_default=True,
    shell_complete=converter_targets,
    help="Format to write: dcp, or vlm for a reasoner.",
)
@click.option("--from", "source_format", shell_complete=converter_sources, help="Format of SOURCE; default: detected.")
@click.option("--vision", type=click.Choice(["auto", "qwen", "cosmos"]), default="auto", help="Tower of a reasoner.")
@click.option("--backbone", help="Folder or Hub name of a reasoner's vision tower, configuration and tokenizer.")
@json_option
@click.pass_obj
def convert(
    plugins: PluginManager,
    source: str,
    output: Path,
    target: str,
    source_format: str | None,
    vision: str,
    backbone: str | None,
    as_json: bool,
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
    kind = source_format or _format(snapshot.path, target, plugins)
    spec = find_converter(plugins.registry, kind, target)
    options = {"vision": vision, "backbone": backbone or ""}
    request = Conversion(source=snapshot.path, output=output, source_revision=snapshot.source_revision, options=options)
    print_facts({"origin": snapshot.source_revision, **spec.convert.load()(request)}, as_json)


def _format(path: Path, target: str, plugins: PluginManager) -> str:
    """The format of a published folder that can be converted. Raises UserError that says what else it is."""
    source = identify(path, plugins)
    if source is None:
        title = f"{path} is no checkpoint that an installed plugin knows"
        raise UserError(title, conversions_to(plugins.registry, target))
    if source.kind != "published":
        hint = f"a run starts from it with checkpoint.load_path={path}"
        hint += f"; `cosmos export {path} -o DIR` writes it for others" * (source.kind != "base")
        problem = Problem(message="only published weights and exports are converted", file=str(path), hint=hint)
        raise UserError(f"{path} is {source.label}", [problem])
    targets = [spec.target for spec in plugins.registry.all(ConverterSpec) if spec.source == source.format]
    readers = [spec for spec in plugins.registry.all(ModelFamilySpec) if source.format in spec.reads]
    if target not in targets and readers:
        key = readers[0].config.load().published_key
        hint = f"a run of task '{readers[0].name}' starts from it with {key}={path}" if key else ""
        hint = hint or f"it can be converted with --to {' or '.join(targets)}"
        problem = Problem(message=f"no conversion to '{target}' is needed or known", file=str(path), hint=hint)
        raise UserError(f"{path} is {source.label}", [problem])
    return source.format
