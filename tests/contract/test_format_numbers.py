"""Files that a later version reads back carry a format number: a newer one is refused by name, none at all is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml
from diffusers import Cosmos3OmniTransformer
from safetensors import safe_open
from safetensors.torch import save_file

from cosmos_core.checkpoint import DcpWriter, load_component, stored_keys
from cosmos_core.data.video import write_mp4
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError
from cosmos_data_videophy.synthetic import draw
from cosmos_vfm.checkpoints.diffusers_config import to_diffusers_config
from tests.command import cosmos
from tests.fixtures.reading import tensors
from tests.fixtures.runs import BEFORE, CACHE, ENVIRONMENT, FOLDERS, PREPARED, RUNS, SMALL, STEPS, copied
from tests.fixtures.small import cosmos_small

NEWER = 999
HELLO, *_, ADAPTERS = RUNS
RESUME = HELLO.arguments(STEPS)
COPY = ("data", "prepare", "videophy2", "--split", "train", "--source", "copy", "-o", "filled")
HERE = Path()


@dataclass(frozen=True)
class Kind:
    """A kind of file: a pattern that finds some, how to read and write them, a command that reads them, and what to
    upgrade."""

    file: str
    read: Callable[[Path], dict[str, Any]]
    write: Callable[[Path, dict[str, Any]], None]
    command: tuple[str, ...]
    package: str = "cosmos-core"

    def number(self, place: Path, number: int | None) -> None:
        """Give every such file this number, or take it away."""
        for file in place.glob(self.file):
            values = {name: value for name, value in self.read(file).items() if name != "format"}
            self.write(file, values if number is None else {"format": number, **values})


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values))


def read_yaml(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def write_yaml(file: Path, values: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(values))


def read_pickle(file: Path) -> dict[str, Any]:
    return torch.load(file, weights_only=True)


def write_pickle(file: Path, values: dict[str, Any]) -> None:
    torch.save(values, file)


def read_component(folder: Path) -> dict[str, Any]:
    numbers = {name: 0 for name in ("iteration", "format") if name in stored_keys(folder)}
    load_component(folder, numbers, local_mesh())
    return {**tensors(folder), **numbers}


def write_component(folder: Path, values: dict[str, Any]) -> None:
    for file in folder.iterdir():
        file.unlink()
    dcp.save(values, checkpoint_id=folder, no_dist=True)


def read_clip(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        values = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        numbers = {"format": int(values["format"])} if "format" in values else {}
        return {**opened.metadata(), **values, **numbers}


def write_clip(file: Path, values: dict[str, Any]) -> None:
    kept = {name: torch.as_tensor(value) for name, value in values.items() if not isinstance(value, str)}
    save_file(kept, file, metadata={"caption": values["caption"]})


EXPORT = ("export", str(ADAPTERS.folder(HERE)), "-o", "exported", "--adapter")
START = (*ADAPTERS.arguments(STEPS, "elsewhere"), "--dry-run")
KINDS = (
    Kind(f"{HELLO.checkpoint(HERE)}/trainer", read_component, write_component, RESUME),
    Kind(f"{HELLO.checkpoint(HERE)}/dataloader/rank_0.pkl", read_pickle, write_pickle, RESUME),
    Kind(f"{HELLO.folder(HERE)}/launch_info.yaml", read_yaml, write_yaml, RESUME),
    Kind(f"{HELLO.folder(HERE)}/outcome.json", read_json, write_json, RESUME),
    Kind(f"{ADAPTERS.checkpoint(HERE)}/*_base.json", read_json, write_json, EXPORT),
    Kind("base/base.json", read_json, write_json, START),
    Kind("latents/cache.json", read_json, write_json, CACHE, "cosmos-vfm"),
    Kind("latents/*/*.safetensors", read_clip, write_clip, CACHE, "cosmos-vfm"),
    Kind("bridge/.prepared.json", read_json, write_json, PREPARED[0], "cosmos-data-bridge"),
    Kind("physics/.prepared.json", read_json, write_json, PREPARED[1], "cosmos-data-videophy"),
    Kind("filled/videophy2_train/.origins/*.json", read_json, write_json, COPY, "cosmos-data-videophy"),
)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Kept state, and beside it a split made from a local copy of one video."""
    place = copied(FOLDERS / "format_1", tmp_path / "place")
    (place / "copy/media").mkdir(parents=True)
    (place / "copy/data.csv").write_text("video_url,caption,upsampled_caption,pc,sa,joint\nhttps://x/a.mp4,c,u,3,4,1\n")
    write_mp4(place / "copy/media/a.mp4", draw(3, np.random.default_rng(0)).pixels, 5)
    cosmos(*COPY, cwd=place)
    return place


@every_kind
def test_a_newer_number_is_refused_by_name(kind: Kind, place: Path) -> None:
    kind.number(place, NEWER)
    said = cosmos(*kind.command, env=ENVIRONMENT, cwd=place, code=2).stderr
    reads = "formats up to 2" if "dataloader" in kind.file else "only format 1"
    assert f"is in format {NEWER}; this version of {kind.package} reads {reads}; upgrade {kind.package}" in said
    assert any(str(file.relative_to(place)) in said for file in place.glob(kind.file))
    assert "Traceback" not in said


@every_kind
def test_a_file_without_a_number_is_read(kind: Kind, place: Path) -> None:
    kind.number(place, None)
    cosmos(*kind.command, env=ENVIRONMENT, cwd=place)


@pytest.mark.parametrize("number", ["one", 0, True, None])
def test_a_format_that_is_no_number_is_refused_as_damage(place: Path, number: Any) -> None:
    record = place / "latents/cache.json"
    write_json(record, {**read_json(record), "format": number})
    said = cosmos(*CACHE, env=ENVIRONMENT, cwd=place, code=2).stderr
    assert f"latents/cache.json  its format is {number!r}, which is not a whole number of at least 1" in said


def test_a_conversion_that_a_newer_version_began_is_refused(tmp_path: Path) -> None:
    DcpWriter(tmp_path).write(0, [("net.a", torch.zeros(2))], of="source")
    record = tmp_path / ".__0_0.distcp.json"
    assert read_json(record)["format"] == 1
    write_json(record, {**read_json(record), "format": NEWER})
    with pytest.raises(UserError, match="written by a newer version"):
        DcpWriter(tmp_path).has(0, "source")


def test_what_is_written_now_carries_its_number(place: Path) -> None:
    for kind in KINDS:
        kind.number(place, None)
    for folder in ("latents", "bridge", "physics", "base", "filled"):
        (place / folder).rename(place / f"old_{folder}")
    for arguments in (*PREPARED, COPY, CACHE):
        cosmos(*arguments, env=ENVIRONMENT, cwd=place)
    config = {key: value for key, value in to_diffusers_config(SMALL).items() if not key.startswith("_")}
    Cosmos3OmniTransformer(**config).save_pretrained(place / "published/transformer")
    cosmos("convert", "published", "-o", "base", cwd=place)
    for run in (HELLO, ADAPTERS):
        shutil.rmtree(run.folder(place))
        cosmos_small(place, *run.arguments(BEFORE))
    for kind in KINDS:
        found = [kind.read(file).get("format") for file in place.glob(kind.file)]
        assert found, kind.file
        assert set(found) == {1}, kind.file
