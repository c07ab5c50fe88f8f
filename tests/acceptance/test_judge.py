"""The judge reads what was drawn, sees nothing in backgrounds, and says chance about noise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cosmos_data_bridge.synthetic import Attributes, attribute_sets, render
from tests.acceptance.judge import NONE, judge

SETS = attribute_sets()


@pytest.mark.parametrize("size", [64, 96])
def test_every_drawn_attribute_is_read_back(size: int) -> None:
    for index, attributes in enumerate(SETS[::5]):
        verdict = judge(render(attributes, np.random.default_rng(index), size=size, frames=17))
        assert (verdict.colour, verdict.direction) == (attributes.color, attributes.direction)
        assert verdict.own_hue > 0.95


def test_a_grey_background_has_no_shape() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (17, 64, 64, 1), dtype=np.uint8), 3, axis=-1)
    assert judge(grey).colour == NONE


def test_a_shape_that_stands_still_has_no_direction() -> None:
    clip = render(Attributes("red", "circle", "left", "stripes"), np.random.default_rng(0), size=64, frames=17)
    assert judge(np.repeat(clip[8:9], 17, axis=0)).direction == NONE


def test_noise_favours_no_colour() -> None:
    seen = Counter(
        judge(np.random.default_rng(seed).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)).own_hue > 0.5
        for seed in range(20)
    )
    assert not seen[True]
