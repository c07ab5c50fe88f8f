"""All a plugin author imports: `hookimpl`, the descriptors, `Problem`."""

from cosmos_core.errors import Problem
from cosmos_core.plugin.descriptors import (
    CallbackSpec,
    CheckpointSpec,
    CommandSpec,
    ConfiguredSpec,
    Conversion,
    ConverterSpec,
    DataPath,
    DatasetSpec,
    DoctorSpec,
    ExportUse,
    MetricSpec,
    ModelFamilySpec,
    Spec,
    TrackerSpec,
)
from cosmos_core.plugin.hookspecs import hookimpl
from cosmos_core.plugin.manager import COSMOS_API, PluginManager
from cosmos_core.plugin.registry import Registry

__all__ = [
    "COSMOS_API",
    "CallbackSpec",
    "CheckpointSpec",
    "CommandSpec",
    "ConfiguredSpec",
    "Conversion",
    "ConverterSpec",
    "DataPath",
    "DatasetSpec",
    "DoctorSpec",
    "ExportUse",
    "MetricSpec",
    "ModelFamilySpec",
    "PluginManager",
    "Problem",
    "Registry",
    "Spec",
    "TrackerSpec",
    "hookimpl",
]
