"""torch.save adds a CRC-32 to each tensor, which takes longer than writing it, and which torch.load never reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["without_crc32"]


@contextmanager
def without_crc32() -> Iterator[None]:
    """Inside, torch.save leaves it out. One core sums 1.6 GB a second, and 10 GB of the manifest's checksum."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)
