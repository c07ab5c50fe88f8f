"""All a plugin author imports: `hookimpl`, the descriptors, `Problem`."""

from cosmos_core.errors import Problem
from cosmos_core.plugin.catalog import Catalog
from cosmos_core.plugin.descriptors import (
    CallbackSpec,
    CheckpointSpec,
    CommandSpec,
    Conversion,
    ConverterSpec,
    DatasetSpec,
    ModelFamilySpec,
    TrackerSpec,
)
from cosmos_core.plugin.hookspecs import hookimpl
from cosmos_core.plugin.manager import COSMOS_API, PluginManager

__all__ = [
    "COSMOS_API",
    "CallbackSpec",
    "Catalog",
    "CheckpointSpec",
    "CommandSpec",
    "Conversion",
    "ConverterSpec",
    "DatasetSpec",
    "ModelFamilySpec",
    "PluginManager",
    "Problem",
    "TrackerSpec",
    "hookimpl",
]
