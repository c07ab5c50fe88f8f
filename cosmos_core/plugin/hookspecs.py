"""The hooks a plugin may implement.

All are called in the launching process, with keyword arguments, before any rank starts; an implementation may take a
subset of the arguments and must not import torch while answering.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, get_args, get_type_hints

import pluggy

from cosmos_core.errors import Problem
from cosmos_core.plugin.descriptors import (
    CallbackSpec,
    CheckpointSpec,
    CommandSpec,
    ConverterSpec,
    DataPath,
    DatasetSpec,
    DoctorSpec,
    MetricSpec,
    ModelFamilySpec,
    Spec,
    TrackerSpec,
)

__all__ = ["CONTRIBUTIONS", "PROJECT", "HookSpecs", "hookimpl"]

PROJECT = "cosmos"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs(Protocol):
    """One method for each hook; `cosmos plugins hooks` prints this as a page."""

    @hookspec
    def cosmos_model_families(self) -> Iterable[ModelFamilySpec]:
        """Model families this plugin provides. Called once a command, when plugins are discovered. Since 0.1.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield ModelFamilySpec(name="acme", summary="Acme generator", accepts=("video_text",),
                                  config="acme_cosmos.config:Acme", family="acme_cosmos.family:AcmeFamily")
        """

    @hookspec
    def cosmos_datasets(self) -> Iterable[DatasetSpec]:
        """Datasets this plugin provides. Called once a command, when plugins are discovered. Since 0.1.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield DatasetSpec(name="lidar", summary="Paired lidar and captions", yields="video_text",
                              config="acme_cosmos.config:Lidar", source="acme_cosmos.lidar:LidarSource")
        """

    @hookspec
    def cosmos_callbacks(self) -> Iterable[CallbackSpec]:
        """Callbacks this plugin provides. Called once a command, when plugins are discovered. Since 0.1.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield CallbackSpec(name="bell", summary="Rings at the end", config="acme_cosmos.config:Bell",
                               callback="acme_cosmos.bell:BellCallback")
        """

    @hookspec
    def cosmos_trackers(self) -> Iterable[TrackerSpec]:
        """Trackers this plugin provides. Called once a command, when plugins are discovered. Since 0.1.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield TrackerSpec(name="csv", summary="Metrics as CSV", config="acme_cosmos.config:Csv",
                              tracker="acme_cosmos.csv:CsvTracker")
        """

    @hookspec
    def cosmos_checkpoints(self) -> Iterable[CheckpointSpec]:
        """Published checkpoints that commands may name. Called once a command, when plugins are discovered. Since 0.1.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield CheckpointSpec(name="Acme-Nano", summary="Acme's small generator", repo="acme/nano", revision="main")
        """

    @hookspec
    def cosmos_converters(self) -> Iterable[ConverterSpec]:
        """Conversions this plugin provides. Called once a command, when plugins are discovered. Since 0.1.

        `cosmos convert` uses those to 'dcp', `cosmos export` those to 'hf'.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield ConverterSpec(source="acme", target="dcp", task="acme", summary="Acme weights to a base checkpoint",
                                convert="acme_cosmos.convert:to_dcp")
        """

    @hookspec(firstresult=True)
    def cosmos_identify_checkpoint(self, path: Path) -> str | None:
        """The format of a checkpoint folder, None when it is not one of this plugin's. Since 0.1.

        Called for every folder a command is given, plugin by plugin; the first answer counts, core comes last.
        Exported adapters are 'adapters'.

        May import: the plugin's own light modules; it must decide from names and headers, without loading tensors.

        Example::

            return "acme" if (path / "acme.json").is_file() else None
        """

    @hookspec(firstresult=True)
    def cosmos_identify_data(self, path: Path) -> DataPath | None:
        """How the data at a path is read, None when it is not one of this plugin's. Since 0.1.

        Called for the file or folder that `cosmos data check` and `cosmos data show` are given instead of a recipe,
        plugin by plugin; the first answer counts. It raises UserError for a file of its kind that cannot be read.

        May import: `cosmos_core.data` and the plugin's own light modules.

        Example::

            if (path / "acme.json").is_file():
                return DataPath(dataset={"type": "acme_points", "path": str(path)}, recipe="acme_hello")
            return None
        """

    @hookspec
    def cosmos_commands(self) -> Iterable[CommandSpec]:
        """Commands this plugin adds to `cosmos`. Called once a command, when plugins are discovered. Since 0.1.

        `cosmos --help` lists a command under its `group`, by default "plugins".

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield CommandSpec(path=("acme", "score"), summary="Score a run", command="acme_cosmos.cli:score",
                              group="models")
        """

    @hookspec
    def cosmos_doctor_checks(self) -> Iterable[DoctorSpec]:
        """Checks this plugin adds to `cosmos doctor`. Called once a command, when plugins are discovered. Since 0.1.

        The checks run in a process of their own, which may import anything and may crash.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield DoctorSpec(name="acme_kernels", summary="Acme's kernels", checks="acme_cosmos.doctor:checks")
        """

    @hookspec
    def cosmos_metrics(self) -> Iterable[MetricSpec]:
        """Metrics of answers this plugin provides. Called once a command, when plugins are discovered. Since 0.1.

        Validation and `cosmos eval` use those that name the dataset, else the general ones.

        May import: `cosmos_core.plugin`, `cosmos_core.config`, and the plugin's own light modules.

        Example::

            yield MetricSpec(name="length", summary="Words an answer has", metric="acme_cosmos.metrics:length",
                             errors=("surplus_words",))
        """

    @hookspec
    def cosmos_check_run(self, plan: Any) -> Iterable[Problem]:
        """Problems of a planned run that this plugin finds. Called once a run, before any rank starts. Since 0.1.

        May import: as above, and `cosmos_core.plan`.

        plan: a `cosmos_core.plan.RunPlan`.

        Example::

            if plan.config.job.task == "acme" and plan.degrees.context > 1:
                yield Problem(message="acme cannot split sequences", key="model.parallelism")
        """


def _contributions() -> dict[str, type[Spec]]:
    """Hook -> the kind of descriptor in its return type."""
    promised = {
        name: get_args(get_type_hints(hook)["return"])[0]
        for name, hook in vars(HookSpecs).items()
        if name.startswith("cosmos_")
    }
    return {name: record for name, record in promised.items() if isinstance(record, type) and issubclass(record, Spec)}


CONTRIBUTIONS = _contributions()
"""Every kind of contribution by the hook that yields it."""
