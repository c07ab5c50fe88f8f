"""The five wheels build, install into a fresh environment and work from there."""

from __future__ import annotations

import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {
    "cosmos_core": ROOT,
    "cosmos_vfm": ROOT / "plugins/cosmos_vfm",
    "cosmos_vlm": ROOT / "plugins/cosmos_vlm",
    "cosmos_data_bridge": ROOT / "plugins/cosmos_data_bridge",
    "cosmos_data_videophy": ROOT / "plugins/cosmos_data_videophy",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for source in DISTRIBUTIONS.values():
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)],
            check=True,
            capture_output=True,
        )
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a fresh environment that holds the wheels; third-party packages come from this one."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    packages = next(folder.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, *map(str, wheels.values())], check=True, capture_output=True)
    # A plain path line: editable installs of this environment are not followed.
    (packages / "third_party.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def run(python: Path, *arguments: str) -> str:
    done = subprocess.run([str(python), *arguments], capture_output=True, text=True, cwd=python.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_distribution_builds_a_wheel_of_its_package_alone(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == DISTRIBUTIONS.keys()
    for package, wheel in wheels.items():
        names = zipfile.ZipFile(wheel).namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
        assert tops == {package}


def test_recipes_travel_in_the_wheel(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["cosmos_data_bridge"]).namelist()
    assert "cosmos_data_bridge/recipes/vision_sft_nano.toml" in names


def test_installed_wheels_are_imported_from_the_fresh_environment(installed: Path) -> None:
    for package in DISTRIBUTIONS:
        where = run(installed, "-c", f"import {package}; print({package}.__file__)").strip()
        assert Path(where).is_relative_to(installed.parents[1]), where


def test_module_and_console_script_answer(installed: Path) -> None:
    assert "recipes" in run(installed, "-m", "cosmos_core", "--help")
    done = subprocess.run([str(installed.parent / "cosmos"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_plugins_and_recipes_are_found_by_installation_alone(installed: Path) -> None:
    listed = run(installed, "-m", "cosmos_core", "plugins", "list")
    assert all(name in listed for name in ("cosmos-vfm", "cosmos-vlm", "cosmos-data-bridge", "cosmos-data-videophy"))
    assert "vision_sft_nano" in run(installed, "-m", "cosmos_core", "recipes", "list")
