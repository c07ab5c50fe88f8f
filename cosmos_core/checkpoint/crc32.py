"""torch.save without CRC-32 sums. They take longer than writing does, and torch.load never reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["without_crc32"]


@contextmanager
def without_crc32() -> Iterator[None]:
    """Inside, torch.save computes none. A core does 1.6 GB a second of it, and 10 of the manifest's checksum."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)
