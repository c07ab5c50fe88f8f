"""The text a model reads: sentences joined by one space, nothing before the first or after the last."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from attrs import evolve

from cosmos_data_bridge.captions import Caption, ClipFacts, model_text
from cosmos_data_bridge.config import BridgeConfig

FACTS = ClipFacts(frames=85, fps=5.0, width=320, height=192)
LENGTH = "The video is 17.0 seconds long and is of 5 FPS."
SIZE = "This video is of 192x320 resolution."


def text(caption: str, *, structured: bool = False, facts: ClipFacts = FACTS, **options: object) -> str:
    config = BridgeConfig(type="bridge", path="x", **{"cfg_dropout_rate": 0.0, **options})
    return model_text(Caption(caption, structured, "caption"), facts, config, np.random.default_rng(0))


@pytest.mark.parametrize("suffix", ["Overall, fine.", " Overall, fine.", "Overall, fine.\n", "  Overall, fine.  "])
def test_a_suffix_follows_after_one_space_however_it_is_written(suffix: str) -> None:
    assert text("A cat", caption_suffix=suffix) == f"A cat. Overall, fine. {LENGTH} {SIZE}"


@pytest.mark.parametrize("suffix", ["", " "])
def test_a_blank_suffix_adds_nothing(suffix: str) -> None:
    assert text("A cat", caption_suffix=suffix) == f"A cat. {LENGTH} {SIZE}"


def test_kept_metadata_of_a_dropped_caption_begins_the_text_and_the_suffix_goes_with_the_caption() -> None:
    dropped = {"cfg_dropout_rate": 1.0, "cfg_dropout_keep_metadata": True, "caption_suffix": "Fine."}
    assert text("A cat", **dropped) == f"{LENGTH} {SIZE}"
    assert text("A cat", **dropped, append_duration_fps_timestamps=False) == SIZE
    assert text("A cat", **dropped, append_duration_fps_timestamps=False, append_resolution_info=False) == ""


def test_a_structured_caption_gets_neither_suffix_nor_metadata_nor_a_full_stop() -> None:
    assert text('{"a": 1}', structured=True, caption_suffix="Fine.") == '{"a": 1}'
    dropped = {"cfg_dropout_rate": 1.0, "cfg_dropout_keep_metadata": True, "caption_suffix": "Fine."}
    assert text('{"a": 1}', structured=True, **dropped) == ""


def test_a_picture_is_called_an_image_and_has_no_duration() -> None:
    assert text("A cat", facts=evolve(FACTS, frames=1)) == "A cat. This image is of 192x320 resolution."


@pytest.mark.parametrize("flags", [*product([False, True], repeat=4)])
def test_no_choice_of_options_gives_two_spaces_or_one_at_an_end(flags: tuple[bool, ...]) -> None:
    length, size, kept, dropped = flags
    found = text(
        " A cat.. ",
        caption_suffix=" Fine. ",
        append_duration_fps_timestamps=length,
        append_resolution_info=size,
        cfg_dropout_keep_metadata=kept,
        cfg_dropout_rate=float(dropped),
    )
    assert found == " ".join(found.split())
    assert (LENGTH in found) == (length and (kept or not dropped))
    assert (SIZE in found) == (size and (kept or not dropped))
    assert ("A cat. Fine." in found) == (not dropped)
