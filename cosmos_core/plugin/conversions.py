"""Finds the converter between two formats."""

from __future__ import annotations

from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.descriptors import ConverterSpec
from cosmos_core.plugin.registry import Registry

__all__ = ["conversions_to", "find_converter"]


def find_converter(registry: Registry, source: str, target: str, task: str | None = None) -> ConverterSpec:
    """The conversion between two formats, of one task if given. Raises UserError listing the installed ones."""
    for spec in registry.all(ConverterSpec):
        if (spec.source, spec.target) == (source, target) and task in (None, spec.task):
            return spec
    raise UserError(
        f"no plugin converts '{source}' to '{target}'" + (f" for task '{task}'" if task else ""),
        conversions_to(registry, target),
    )


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
