"""Settings of runs as flat keys, and which of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from cosmos_core.config.locate import key_text
from cosmos_core.config.reference import value_text

__all__ = ["Difference", "differing_settings", "flat"]

TASK = "job.task"
UNCOMPARED = {"job.name"}
"""Two runs in one output root always differ in it."""


@frozen
class Difference:
    """One key. values: one for each run; None where a run has none."""

    key: str
    values: tuple[Any, ...]

    @property
    def texts(self) -> list[str]:
        """The values as TOML; "not set" where a run has none."""
        return [value_text(value) for value in self.values]


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Keys whose values are not the same in all of these plain configurations.

    Of runs of different tasks only those that all have are compared, since their models and data have others.
    """
    settings = [flat(config) for config in configs]
    keys = dict.fromkeys(key for values in settings for key in values)
    if len({values.get(TASK) for values in settings}) > 1:
        keys = {key: None for key in keys if all(key in values for values in settings)}
    rows = {key: [values.get(key) for values in settings] for key in keys if key not in UNCOMPARED}
    return [
        Difference(key, tuple(values)) for key, values in rows.items() if any(value != values[0] for value in values)
    ]


def flat(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """``{"optimizer.lr": 1e-4, ...}``: every value that is no table, under its dotted key."""
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, (*path, name))
        else:
            values[key_text((*path, name))] = value
    return values
