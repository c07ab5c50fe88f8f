"""Every resolution that the data offers is one that the generator trains at."""

from __future__ import annotations

from cosmos_data_bridge.resolution import TIERS
from cosmos_vfm.config import DEFAULT_SHIFT
from cosmos_vfm.flow.sigmas import shift_for
from cosmos_vfm.tokenizer.video import SPATIAL


def test_every_size_of_every_resolution_fits_the_tokenizer_and_has_a_shift() -> None:
    for tier, sizes in TIERS.items():
        for width, height in sizes.values():
            assert (width % SPATIAL, height % SPATIAL) == (0, 0), tier
            assert shift_for({}, width, height) in DEFAULT_SHIFT.values()
