"""A configuration whose validation data is replaced, for evaluating weights on any dataset."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve

from cosmos_core.config.dump import to_toml
from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.descriptors import DatasetSpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.loading import Resolved, resolve
from cosmos_core.recipes.written import literal_tables

__all__ = ["dataset_table", "with_dataset"]

BATCH = {"max_samples_per_batch": 1, "num_workers": 0}


def dataset_table(name: str, plugins: PluginManager) -> dict[str, Any]:
    """The table of a dataset's name, or of the data in a file or folder: its validation split, where it has one.

    Raises UserError when there is no such dataset, or no plugin knows the data.
    """
    if not Path(name).exists():
        return {"type": plugins.registry.get(DatasetSpec, name).name}
    data = plugins.identify_data(Path(name))
    if data is None:
        message = "no plugin reads it; a spreadsheet is read when it is saved as CSV"
        hint = "docs/data.md says what can be read; or name the dataset's type and dataloader_val.dataset.path=PATH"
        raise UserError("this is no known data", [Problem(message=message, file=name, hint=hint)])
    table = {key: value for key, value in data.dataset.items() if value is not None}
    return {**plugins.registry.get(DatasetSpec, str(table["type"])).evaluated, **table, **data.validation}


def with_dataset(
    config: RunConfig | None, task: str, dataset: dict[str, Any], overrides: Sequence[str], *, plugins: PluginManager
) -> Resolved:
    """The configuration with this validation data, then with overrides. config: None for the defaults of the task.

    Batches are those of the configuration's own validation or training data, and so are the options that the dataset's
    descriptor carries over, or all where it is only named and that data is of the same type. Raises UserError as
    `resolve` does.
    """
    if config is None:
        values: dict[str, Any] = {"job": {"task": task, "name": "evaluation"}}
        values["dataloader_train"] = {**BATCH, "dataset": dataset}
    else:
        values = tomllib.loads(to_toml(config))
    loader = values.get("dataloader_val") or values["dataloader_train"]
    own, spec = loader.get("dataset", {}), plugins.registry.get(DatasetSpec, dataset["type"])
    carried = own if dataset == {"type": own.get("type")} else {name: own[name] for name in spec.carried if name in own}
    dataset = {**carried, **dataset}
    options = {name: value for name, value in loader.items() if name not in ("cache", "mixture")}
    values["dataloader_val"] = {**options, "dataset": dataset, "shuffle": False}
    values = literal_tables(values)
    import tomlkit

    with TemporaryDirectory() as folder:
        path = Path(folder) / "evaluation.toml"
        path.write_text(tomlkit.dumps(values), encoding="utf-8")
        try:
            resolved = resolve(str(path), overrides, plugins=plugins)
            return evolve(resolved, notes=tuple(note for note in resolved.notes if note.file != str(path)))
        except UserError as error:
            # Nobody knows the file: only the command line can be wrong, and be warned of.
            problems = [
                evolve(fault, file="", line=None) if fault.file == str(path) else fault for fault in error.problems
            ]
            raise UserError(error.title.replace(str(path), "the settings of the evaluation"), problems) from None
