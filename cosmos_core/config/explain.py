"""One key in words."""

from __future__ import annotations

from collections.abc import Iterable

from cosmos_core.config.compat import RENAMED
from cosmos_core.config.reference import Key, Section, keys_of
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["explain_key"]


def explain_key(name: str, sections: Iterable[Section], present: dict[str, str] | None = None) -> list[dict[str, str]]:
    """What there is to say of a key, once for each section that has it (a family's [model], a dataset's table).

    present: further facts about its value in a recipe. Raises UserError with the nearest key.
    """
    wanted = name.replace("dataloader_val.", "dataloader_train.", 1)
    keys = [key for section in sections for key in keys_of(section)]
    found = [key for key in keys if key.name == wanted]
    if not found:
        renamed = f"it is now called '{RENAMED[name]}'" if name in RENAMED else ""
        hint = renamed or did_you_mean(wanted, [key.name for key in keys]) or "`cosmos config reference` lists all"
        raise UserError(f"no key '{name}'", [Problem(message="no installed section has it", hint=hint)])
    return [{**_facts(key, name), **(present or {})} for key in found]


def _facts(key: Key, name: str) -> dict[str, str]:
    facts = {
        "key": name,
        "when": key.when,
        "type": key.type,
        "default": key.default,
        "bounds": key.bounds,
        "unit": key.unit,
        "on resume": key.on_resume,
        "meaning": key.help,
        "owner": key.owner,
    }
    return {label: text for label, text in facts.items() if text}
