"""Public names change only together with the file that lists them, so that a change is seen in review."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.public_api import GOLDEN, public_api


def test_the_public_names_are_those_of_the_golden_file() -> None:
    listed, found = set(GOLDEN.read_text(encoding="utf-8").split()), set(public_api().split())
    assert listed == found, (
        f"new: {sorted(found - listed)}, gone: {sorted(listed - found)}; `make docs` lists them anew"
    )


@pytest.mark.torch
def test_every_public_name_exists() -> None:
    for line in GOLDEN.read_text(encoding="utf-8").split():
        module, _, name = line.rpartition(".")
        assert hasattr(import_module(module), name), line
