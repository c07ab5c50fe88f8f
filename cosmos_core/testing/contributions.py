"""Loads a descriptor's references and checks their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import click

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DatasetConfig, TrackerConfig
from cosmos_core.data.source import MapSource
from cosmos_core.plugin.descriptors import (
    CallbackSpec,
    CommandSpec,
    ConverterSpec,
    DatasetSpec,
    DoctorSpec,
    MetricSpec,
    ModelFamilySpec,
    Spec,
    TrackerSpec,
)
from cosmos_core.plugin.status import describe_failure
from cosmos_core.refs import Ref
from cosmos_core.train.callback import Callback
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.tracker import Tracker

__all__ = ["check_contribution"]


def _subclass(base: type) -> Callable[[Any], str]:
    def check(loaded: Any) -> str:
        if not isinstance(loaded, type) or not issubclass(loaded, base):
            return f"is no subclass of {base.__name__}"
        missing = sorted(getattr(loaded, "__abstractmethods__", ()))
        return f"has no {', '.join(missing)}" if missing else ""

    return check


def _attrs_class(loaded: Any) -> str:
    return "" if isinstance(loaded, type) and attrs.has(loaded) else "is no attrs class"


def _callable(loaded: Any) -> str:
    return "" if callable(loaded) else "cannot be called"


def _command(loaded: Any) -> str:
    return "" if isinstance(loaded, click.Command) else "is no click command"


_RULES: dict[type[Spec], dict[str, Callable[[Any], str]]] = {
    ModelFamilySpec: {"config": _subclass(ModelConfig), "family": _subclass(ModelFamily)},
    DatasetSpec: {"config": _subclass(DatasetConfig), "source": _subclass(MapSource), "prepare": _command},
    CallbackSpec: {"config": _attrs_class, "callback": _subclass(Callback)},
    TrackerSpec: {"config": _subclass(TrackerConfig), "tracker": _subclass(Tracker)},
    ConverterSpec: {"convert": _callable},
    DoctorSpec: {"checks": _callable},
    MetricSpec: {"metric": _callable, "report": _callable},
    CommandSpec: {"command": _command},
}
"""Check of each reference; references without one need only load."""


def check_contribution(spec: Spec) -> list[str]:
    """Faults of a descriptor's references; empty if all load and have the right type."""
    faults = []
    rules = _RULES.get(type(spec), {})
    for name, reference in attrs.asdict(spec, recurse=False).items():
        if not isinstance(reference, Ref):
            continue
        try:
            fault = rules.get(name, lambda loaded: "")(reference.load())
        except Exception as error:
            fault = describe_failure(error)
        if fault:
            faults.append(f"{name} {reference}: {fault}")
    return faults
