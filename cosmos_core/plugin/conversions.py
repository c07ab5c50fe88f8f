"""Finds the converter between two formats, and checks their names."""

from __future__ import annotations

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import ConverterSpec
from cosmos_core.plugin.registry import Registry

__all__ = ["check_formats", "conversions_to", "find_converter"]


def find_converter(registry: Registry, source: str, target: str, task: str | None = None) -> ConverterSpec:
    """The conversion between two formats, of one task if given. Raises UserError listing the installed ones."""
    for spec in registry.all(ConverterSpec):
        if (spec.source, spec.target) == (source, target) and task in (None, spec.task):
            return spec
    raise UserError(
        f"no plugin converts '{source}' to '{target}'" + (f" for task '{task}'" if task else ""),
        conversions_to(registry, target),
    )


def check_formats(registry: Registry, source: str | None, target: str) -> None:
    """Raises UserError for a format that no installed conversion reads or writes, with the nearest one."""
    specs = registry.all(ConverterSpec)
    problems = []
    for option, name, known in (
        ("--from", source, {spec.source for spec in specs}),
        ("--to", target, {spec.target for spec in specs}),
    ):
        if name is not None and name not in known:
            hint = did_you_mean(name, sorted(known)) or f"known: {', '.join(sorted(known)) or 'none'}"
            problems.append(Problem(message=f"no plugin knows the format '{name}'", key=option, hint=hint))
    if problems:
        raise UserError("unknown format; nothing was fetched or written", problems)


def conversions_to(registry: Registry, target: str) -> list[Problem]:
    """Installed conversions to `target`, and how their sources are recognised; all conversions if there are none."""
    known = registry.all(ConverterSpec)
    return [
        Problem(
            message=f"{spec.name} ({spec.summary}; task {spec.task})"
            + (f" looks for {spec.looks_for}" if spec.looks_for else "")
        )
        for spec in [spec for spec in known if spec.target == target] or known
    ]
