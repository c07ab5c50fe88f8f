"""Which frames of a clip the reasoner sees, and the times it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from cosmos_core.data import Chat, Message, Video
from cosmos_vlm.chat_processor import TokenizedConversation
from tests.tiny_reasoner import family_of, pixels_of, write_reasoner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("backbone"))


@pytest.mark.parametrize(
    ("seconds", "shown", "repeated"),
    [
        ((0.4,), "0.4", [0, 0]),
        ((0.4, 1.0), "0.7", [0, 1]),
        ((0.0, 1.0, 2.0), "0.5 2.0", [0, 1, 2, 2]),
        ((0.0, 0.2, 2.0, 3.0), "0.1 2.5", [0, 1, 2, 3]),
    ],
)
def test_frames_are_shown_in_pairs_and_a_last_one_alone_twice(
    folder: Path, seconds: tuple[float, ...], shown: str, repeated: list[int]
) -> None:
    family = family_of(folder)
    frames = torch.randint(0, 256, (3, len(seconds), 64, 64), dtype=torch.uint8)

    def prepared(pixels: torch.Tensor, times: tuple[float, ...]) -> TokenizedConversation:
        return family.prepare(
            Chat("clip", (Message("user", (Video(pixels, times), "What?")), Message("assistant", ("It.",))))
        )

    dialog = prepared(frames, seconds)
    text = family.processor.tokenizer.decode(dialog.ids)
    assert re.findall(r"<([\d.]+) seconds>", text) == shown.split()
    assert dialog.grids == ((len(repeated) // 2, 4, 4),)
    whole = prepared(frames[:, repeated], tuple(float(number) for number in range(len(repeated))))
    assert torch.equal(pixels_of(dialog), pixels_of(whole))


@pytest.mark.parametrize(
    ("budget", "grid"),
    [({"video_max_pixels": 20_000}, (1, 8, 4)), ({"video_min_pixels": 100_000}, (1, 20, 12)), ({}, (1, 10, 6))],
)
def test_a_single_frame_has_the_size_of_a_pair(
    folder: Path, budget: dict[str, int], grid: tuple[int, int, int]
) -> None:
    family = family_of(folder, **budget)
    frame = torch.randint(0, 256, (3, 1, 160, 96), dtype=torch.uint8)
    single, pair = (
        family.prepare(Chat("clip", (Message("user", (Video(pixels, times),)), Message("assistant", ("It.",)))))
        for pixels, times in ((frame, (1.0,)), (frame.expand(-1, 2, -1, -1), (1.0, 1.0)))
    )
    assert single.grids == pair.grids == (grid,)
    assert torch.equal(pixels_of(single), pixels_of(pair))
    assert torch.equal(single.ids, pair.ids)
