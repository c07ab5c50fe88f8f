"""Mutated recipes give a configuration or one clear error, never a traceback; lines agree with the parser.

`COSMOS_FUZZ=10000` (or `make fuzz`) runs that many cases.
"""

from __future__ import annotations

import os
import random
import re
import tomllib
from pathlib import Path

import pytest
import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_core.config.locate import locate
from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.find import list_recipes
from cosmos_core.recipes.loading import load

CASES = int(os.environ.get("COSMOS_FUZZ", "400"))
PLUGINS = PluginManager.discover()
TEXTS = [recipe.path.read_text() for recipe in list_recipes()]
HEADERS = ('extends = "hello"', "extends = 3", 'unset = ["job.name"]', "requires = [1]")
VALUES = (
    *("true", "0", "-1", "1e400", "nan", "inf", "0x10", "1979-05-27", "[]", "{}", '""', "'???'", '"${oc.env:NOPE}"'),
    *("[1, 'a']", "[[]]", "{a = {b = 1}}", '"${"', '"${now:%Y}"', "9999999999999999999999", '"é"', "[1.5]", "''"),
)


def mutate(text: str, chance: random.Random) -> str:
    """One to four changes a person, or an editor gone wrong, might make."""
    for _ in range(chance.randint(1, 4)):
        lines = text.splitlines() or [""]
        at = chance.randrange(len(lines))
        kind = chance.randrange(9)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines[at] = re.sub(r"=.*", lambda _: "= " + chance.choice(VALUES), lines[at])
        elif kind == 2:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif kind == 3:
            lines[at] = re.sub(r"^\w+", lambda match: match[0] + chance.choice("xs_é9"), lines[at])
        elif kind == 4 and lines[at]:
            position = chance.randrange(len(lines[at]))
            lines[at] = lines[at][:position] + chance.choice("\"'[]{}=.#\\\x00\t ü") + lines[at][position:]
        elif kind == 5:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        elif kind == 6:
            lines.insert(at, f"[{chance.choice(['job', 'model.ema', 'trainer.callbacks.grad_clip', 'nope', 'a.b.c'])}]")
        elif kind == 7:
            lines.insert(
                0, chance.choice(['extends = "hello"', "extends = 3", 'unset = ["job.name"]', "requires = [1]"])
            )
        else:
            chance.shuffle(lines)
        text = "\n".join(lines) + "\n"
    return text


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**63))
def test_a_mutated_recipe_loads_or_is_one_clear_error(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    path: Path = tmp_path_factory.getbasetemp() / "mutated.toml"
    path.write_text(mutate(chance.choice(TEXTS), chance), encoding="utf-8")
    try:
        load(str(path), plugins=PLUGINS)
    except UserError as error:
        text = render(error)
        assert text.startswith("error: ")
        assert len(text) < 20_000


KEYS = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), st.text(min_size=1, max_size=4))
SCALARS = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.floats(allow_nan=False), st.text(max_size=12))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


def paths(value: object, prefix: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Key paths of every table key below `value`, elements of lists left out."""
    found = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= {(*prefix, key)} | paths(inner, (*prefix, key))
    return found


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(KEYS, TREES, max_size=5))
def test_located_lines_agree_with_the_parser(tree: dict[str, object]) -> None:
    """Cutting a document after a key's line keeps the key, cutting before it loses it: tried through the parser."""
    text = tomlkit.dumps(tree)
    parsed = tomllib.loads(text)
    lines = locate(text)
    assert paths(parsed) <= set(lines)
    total = text.count("\n") + 1
    for path, line in lines.items():
        assert 1 <= line <= total, path
        plain = [part for part in path if isinstance(part, str)]
        if len(plain) == len(path) and re.fullmatch(r"[A-Za-z0-9_-]+", plain[-1]):
            assert plain[-1] in text.split("\n")[line - 1]
