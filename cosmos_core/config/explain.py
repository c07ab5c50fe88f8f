"""The facts that `cosmos config explain KEY` prints."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cosmos_core.config.compat import RENAMED
from cosmos_core.config.fields import OnResume
from cosmos_core.config.reference import Key, Section, keys_of
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["explain_key", "listed"]

_MEMBER = re.compile(r"dataloader_train\.mixture(\[\d+\])?\.")
ON_RESUME: dict[OnResume, str] = {
    "refuse": "another value is an error, since the saved tensors would mean something else",
    "refuse_training": "another value is an error, since the run would train something else; `cosmos eval` takes it",
    "list": "another value is taken, and the plan and the log name the change",
}
"""The rules in words."""


def listed(name: str) -> str:
    """The name under which the reference lists a key: both loaders share theirs, and all members of a mixture."""
    return _MEMBER.sub("dataloader_train.dataset.", name.replace("dataloader_val.", "dataloader_train.", 1))


def explain_key(name: str, sections: Iterable[Section], present: dict[str, str] | None = None) -> list[dict[str, str]]:
    """Label -> text of a key; one dict for each section that has it, since every family may have a key in [model].

    present: facts about its value in a recipe, added to each dict. Raises UserError when no section has the key; its
    hint is the nearest one.
    """
    listed_name = listed(name)
    keys = [key for section in sections for key in keys_of(section)]
    matches = [key for key in keys if key.name == listed_name]
    if not matches:
        new_name = f"it is now called '{RENAMED[name]}'" if name in RENAMED else ""
        nearest = did_you_mean(listed_name, [key.name for key in keys])
        hint = new_name or nearest or "`cosmos config reference` lists all keys"
        raise UserError(f"no key '{name}'", [Problem(message="no installed section has it", hint=hint)])
    return [{**_facts(key, name), **(present or {})} for key in matches]


def _facts(key: Key, name: str) -> dict[str, str]:
    facts = {
        "key": name,
        "when": key.when,
        "type": key.type,
        "default": key.default,
        "bounds": key.bounds,
        "unit": key.unit,
        "on resume": ON_RESUME[key.on_resume],
        "meaning": key.help,
        "owner": key.owner,
    }
    return {label: text for label, text in facts.items() if text}
