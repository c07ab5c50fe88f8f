"""Plans look at a few samples, spread over the data, and read nothing but metadata."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest

from cosmos_core.config import TypicalSample
from cosmos_core.data import MapSource, UnreadableSample
from cosmos_core.data.chat import MediaReader, dimensions_of_row
from cosmos_core.data.lengths import Lengths, lengths_of
from cosmos_core.data.mixture import Member, Mixture
from cosmos_core.errors import UserError


class _Clips(MapSource):
    """Every tenth clip cannot be used; nothing can be decoded."""

    def __init__(self, count: int, problem: type[Exception] | None = None) -> None:
        self.count, self.problem, self.asked = count, problem, list[int]()

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, random: np.random.Generator) -> Any:
        raise AssertionError("a plan decodes nothing")

    def dimensions(self, index: int) -> TypicalSample | None:
        self.asked.append(index)
        if self.problem is not None:
            raise self.problem("unreadable")
        if index % 10 == 0:
            raise UnreadableSample(str(index), "broken")
        return TypicalSample(frames=1 + index % 2, height=10, width=10, text=100)


def test_at_most_64_samples_are_read_from_the_first_to_the_last() -> None:
    source = _Clips(100_000)
    lengths = lengths_of(source)
    assert lengths is not None
    assert (len(source.asked), min(source.asked), max(source.asked)) == (64, 0, 99_999)
    assert 40 < len(lengths.samples) < 64, "those that can be read"
    assert lengths_of(_Clips(3)) is not None


def test_data_that_cannot_be_read_has_no_lengths() -> None:
    assert lengths_of(_Clips(1)) is None
    assert lengths_of(_Clips(100, UserError)) is None


class _Alike(MapSource):
    """Clips of one length."""

    def __init__(self, count: int, frames: int) -> None:
        self.count, self.frames = count, frames

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, random: np.random.Generator) -> Any:
        raise AssertionError("a plan decodes nothing")

    def dimensions(self, index: int) -> TypicalSample | None:
        return TypicalSample(frames=self.frames, height=10, width=10, text=10 * self.frames)


@pytest.mark.parametrize(("sizes", "weights"), [((3, 900), (3.0, 1.0)), ((10_000, 5), (30.0, 10.0))])
def test_members_of_a_mixture_count_by_their_weights_not_by_their_sizes(
    sizes: tuple[int, int], weights: tuple[float, float]
) -> None:
    members = [
        Member(source=_Alike(size, frames), name=str(frames), weight=weight)
        for size, frames, weight in zip(sizes, (1, 21), weights, strict=True)
    ]
    lengths = lengths_of(Mixture(members))
    assert lengths is not None
    assert lengths.usual.text == 60, "three quarters of 10 and a quarter of 210"


def test_the_largest_packs_lie_between_the_usual_sample_and_the_longest_and_shortest_ones() -> None:
    frames = (1, 1, 1, 1, 2, 3, 4, 19)
    samples = tuple(TypicalSample(frames=number, height=10, width=10, text=10 * number) for number in frames)
    lengths = Lengths(samples, (1.0,) * len(samples))
    assert (lengths.usual.frames, lengths.usual.text) == (4, 40)
    (long, short), (many, _) = lengths.in_the_largest_packs(1), lengths.in_the_largest_packs(10_000)
    assert (long.frames, long.text, short.frames, short.text) == (19, 190, 19, 10)
    assert (many.frames, many.text) == (4, 42)


def _row(**media: object) -> dict[str, object]:
    question = "<image><image>" if media else "x" * 400
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "y" * 40}], **media}


def test_a_dialog_is_measured_by_its_text_and_by_the_headers_of_its_media() -> None:
    assert dimensions_of_row(_row(), "", MediaReader()) == TypicalSample(frames=0, height=0, width=0, text=110)
    pictures = []
    for size in ((40, 30), (20, 10)):
        PIL.Image.new("RGB", size).save(file := io.BytesIO(), "PNG")
        pictures.append(file.getvalue()[:60])  # The header alone.
    measured = dimensions_of_row(_row(images=pictures), "", MediaReader())
    assert measured == TypicalSample(frames=1, height=23, width=30, text=10, pictures=2)
    with pytest.raises(UnreadableSample, match="row 1: image cannot be read"):
        dimensions_of_row(_row(images=[b"none", b"none"]), "row 1", MediaReader())
