"""Seeds of counter-based random streams: a pure function of (seed, purpose, counters), the same on every machine.

A stream depends on the sample's position or the step's number, so that a resumed or resharded run draws the same
numbers.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["stream_seed"]


def stream_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for the stream named by `purpose` and `counters`."""
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
