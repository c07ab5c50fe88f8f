"""Entry points as read from metadata files."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from cosmos_core.plugin.entry_points import EntryPoint, entry_points


@pytest.mark.parametrize("group", ["cosmos.plugins", "cosmos.recipes", "console_scripts"])
def test_installed_ones_are_those_of_importlib_metadata(group: str) -> None:
    standard = {
        (entry.name, entry.value.partition("[")[0].strip(), entry.dist.name, entry.dist.version)
        for entry in importlib.metadata.entry_points(group=group)
        if entry.dist is not None
    }
    ours = {(entry.name, entry.value, entry.distribution, entry.version) for entry in entry_points(group)}
    assert ours == standard
    assert ours


def write(folder: Path, version: str, text: str, *, name: str = "Acme.Pack") -> None:
    folder.mkdir(parents=True)
    metadata = "PKG-INFO" if folder.suffix == ".egg-info" else "METADATA"
    (folder / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: of a text\n")
    (folder / "entry_points.txt").write_text(text)


def test_the_first_copy_of_a_distribution_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    write(
        near / "acme_pack-2.0.dist-info", "2.0", "[cosmos.other]\na = b\n\n# note\n[cosmos.plugins]\nacme = acme.new\n"
    )
    write(far / "Acme.Pack-1.0.dist-info", "1.0", "[cosmos.plugins]\nacme = acme.old\n")
    write(far / "legacy.egg-info", "3.0", "[cosmos.plugins]\nlegacy=legacy.plugin [extra]\n", name="legacy")
    monkeypatch.setattr("sys.path", [str(near), str(tmp_path / "absent"), str(far)])
    assert entry_points("cosmos.plugins") == [
        EntryPoint("acme", "acme.new", "Acme.Pack", "2.0"),
        EntryPoint("legacy", "legacy.plugin", "legacy", "3.0"),
    ]
