"""Whatever a user names as a file or folder, the name gets one clear error where nothing usable is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosmos_core.config.problems import render
from cosmos_core.data.jsonl import ClipFilter, read_clips
from cosmos_core.errors import UserError
from cosmos_core.hub import locate_checkpoint
from cosmos_core.plan.source import find_source
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load
from cosmos_core.recipes.peek import peek
from cosmos_core.strict_json import read_object
from cosmos_data_bridge.folder.listing import Listing, Source
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.manifest import read_manifest
from cosmos_data_videophy.tables import find_table
from cosmos_vfm.cache import LatentCache
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.generate.adapters import parse_adapter
from cosmos_vfm.generate.prompt_file import read_prompts
from cosmos_vfm.tokenizer.hub import hub_tokens
from cosmos_vfm.tokenizer.wan_files import find_vae, stored_weights
from cosmos_vlm.architecture import architecture_of
from cosmos_vlm.data.local import local_copy

PLUGINS = PluginManager.discover()
EVERY_CLIP = ClipFilter(61.0, 0, 1)
NAMES = {
    "a NUL": "a\0b",
    "half a character": "a\ud800",
    "300 letters": "x" * 300,
    "too long": "x/" * 3000,
    "a link to itself": "loop",
    "below a link to itself": "loop/inside",
    "a link to nothing": "dangling",
    "below a file": "file/inside",
    "nothing": "nothing",
}
READERS: dict[str, Callable[[str], object]] = {
    "a JSON file": lambda name: read_object(Path(name)),
    "clips": lambda name: read_clips(Path(name), Path(name).parent, EVERY_CLIP),
    "clips of a root": lambda name: read_clips(Path(name, "c.jsonl"), Path(name), EVERY_CLIP),
    "a folder of clips": lambda name: Listing.of(Source(Path(name))).entries(),
    "VideoPhy-2": lambda name: read_manifest(VideophyConfig(type="videophy2", path=name)),
    "a table of scores": lambda name: find_table(Path(name), "train"),
    "dialogs": lambda name: local_copy(name, None),
    "a part of dialogs": lambda name: local_copy(name, "part"),
    "a recipe": lambda name: load(f"{name}.toml", plugins=PLUGINS),
    "a recipe's name": lambda name: load(name, plugins=PLUGINS),
    "a source of weights": lambda name: find_source(Path(name), PLUGINS),
    "a folder of weights": lambda name: locate_checkpoint(f"./{name}", PLUGINS.registry),
    "a generator": lambda name: to_dcp(Path(name), Path("out")),
    "an output": lambda name: to_dcp(Path(), Path(name)),
    "an adapter": parse_adapter,
    "prompts": lambda name: read_prompts(Path(name)),
    "a text tokenizer": lambda name: hub_tokens(f"./{name}", "main"),
    "a video tokenizer": lambda name: stored_weights(find_vae(name)),
    "a backbone": lambda name: architecture_of(Path(name)),
    "a cache": lambda name: LatentCache(Path(name), "codec", "text"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("elsewhere")
    (tmp_path / "file").write_bytes(b"a file")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("reader", READERS)
def test_a_name_of_nothing_usable_is_one_error(reader: str, folder: Path) -> None:
    for what, name in NAMES.items():
        try:
            READERS[reader](name)
        except UserError as error:
            render(error).encode()
        except Exception as error:
            error.add_note(f"{reader}: {what}")
            raise
        else:
            pytest.fail(f"{reader}: {what} was read")
    assert peek(folder / "loop.toml").problem is not None
