"""How a resumed run's configuration differs from the one that trained its checkpoint, and what is rejected.

The rule of each key is its field's `on_resume`, shown by `cosmos config reference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os.path import realpath
from types import MappingProxyType
from typing import Any

import attrs
from attrs import evolve, frozen

from cosmos_core.config.compat import new_name
from cosmos_core.config.dump import to_plain
from cosmos_core.config.fields import OnResume, default_of, on_resume_of
from cosmos_core.config.locate import KeyPath, key_text
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig

__all__ = ["Change", "changes"]

_TABLES = {("trainer", "callbacks"), ("trackers",)}
"""Tables whose entries are typed by their names."""

_LISTS = {("dataloader_train", "mixture")}
"""Lists of tables with names."""

_PATHS = {"path", "load_path", "vae_path", "safetensors_path", "cache", "cache_dir"}
"""Keys whose values name places on this machine."""


@frozen
class Change:
    """One key that differs. old, new: plain values, None where not set. rule: of the key, for a run that resumes."""

    key: str
    old: Any
    new: Any
    rule: OnResume

    @property
    def rejected(self) -> bool:
        """Whether a run may not resume with it."""
        return self.rule != "list"

    def __str__(self) -> str:
        return f"{self.key} {value_text(self.old)} -> {value_text(self.new)}"


def changes(
    recorded: Mapping[str, Any], config: RunConfig, folders: Mapping[str, str] = MappingProxyType({})
) -> tuple[Change, ...]:
    """Every key of `config` that differs from the recorded plain values; missing keys count as their default.

    folders: recorded `ModelConfig.folder_digests`. A folder that has moved or was copied is listed, whatever its rule.

    Keys that were renamed since are compared under their new names.

    Of another model family only the task is named, since its keys are others.
    """
    digests = config.model.folder_digests
    moved = {key for key in folders.keys() & digests.keys() if folders[key] == digests[key]}
    differing = tuple(
        evolve(change, rule="list") if change.key in moved else change
        for change in _in_section((), recorded, config, to_plain(config), "list")
    )
    task = tuple(change for change in differing if change.key == "job.task")
    return task or differing


def _in_section(
    path: KeyPath, old: Mapping[str, Any], section: Any, new: Mapping[str, Any], inherited: OnResume
) -> Iterator[Change]:
    """Keys below one table. section: the attrs instance whose plain values are `new`."""
    fields = attrs.fields_dict(type(section))
    renamed = {name: new_name((*path, name), fields) for name in old.keys() - fields.keys()}
    old = {renamed.get(name) or name: value for name, value in old.items()}
    for name, field in fields.items():
        before = old[name] if name in old else _default(field)
        value = getattr(section, name)
        switch, off = field.metadata.get("unless") or (name, ())
        # What is switched off in both has no meaning that could change.
        idle = new[switch] in off and old.get(switch, _default(fields[switch])) in off
        rule = "list" if idle else on_resume_of(field, inherited)
        yield from _in_value((*path, name), before, value, new[name], rule)
    for name in sorted(old.keys() - fields.keys()):
        # This version has no such key, so it cannot be set back.
        yield from _in_value((*path, name), old[name], None, None, "list")


def _in_value(path: KeyPath, old: Any, value: Any, new: Any, rule: OnResume) -> Iterator[Change]:
    if attrs.has(type(value)):
        yield from _in_section(path, old if isinstance(old, dict) else {}, value, new, rule)
    elif path in _TABLES:
        before = old if isinstance(old, dict) else {}
        for name in dict.fromkeys([*before, *value]):
            both = name in before and name in value
            item = value.get(name) if both else None
            yield from _in_value((*path, name), before.get(name), item, new.get(name), rule)
    elif path in _LISTS and isinstance(old, list) and all(isinstance(member, dict) for member in old):
        yield from _in_members(path, old, value, new, rule)
    elif old != new and not (path[-1] in _PATHS and _same_place(old, new)):
        yield Change(key_text(path), old, new, rule)


def _in_members(
    path: KeyPath, old: list[dict[str, Any]], value: tuple[Any, ...], new: list[dict[str, Any]], rule: OnResume
) -> Iterator[Change]:
    """Members of a mixture, compared by their names."""
    before = {member.get("name") or member.get("type"): member for member in old}
    for index, (member, after) in enumerate(zip(value, new, strict=True)):
        name = after["name"] or after["type"]
        if name in before:
            yield from _in_value((*path, index), before.pop(name), member, after, rule)
        else:
            yield Change(key_text((*path, index)), None, name, rule)
    for name in before:
        yield Change(key_text(path), name, None, rule)


def _same_place(old: Any, new: Any) -> bool:
    """Whether two texts name one file or folder, such as ``a/../b`` and ``b``."""
    return isinstance(old, str) and isinstance(new, str) and realpath(old) == realpath(new)


def _default(field: attrs.Attribute[Any]) -> Any:
    """The plain default as it is recorded; None if there is none."""
    default = default_of(field)
    return None if default is attrs.NOTHING else to_plain({"value": default})["value"]
