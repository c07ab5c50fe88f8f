"""Which samples of the running epochs were used, so that a run can go on when its data has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from cosmos_core.data.sampler import Place

__all__ = ["DIGEST_SIZE", "UsedSamples", "UsedView", "digest_of"]

DIGEST_SIZE = 8
"""Bytes."""


def digest_of(identity: str) -> bytes:
    """What is kept of a sample's identity."""
    return blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE).digest()


class UsedView(Mapping[str, dict[int, bytes]]):
    """What was used at some moment; nothing is copied until it is asked for, since every pack has one."""

    def __init__(self, parts: Mapping[tuple[str, int], tuple[bytearray, int]]) -> None:
        """parts: by member and epoch, digests that only grow, and how many bytes of them count."""
        self._parts = parts

    def __getitem__(self, name: str) -> dict[int, bytes]:
        epochs = {
            epoch: bytes(digests[:size]) for (member, epoch), (digests, size) in self._parts.items() if member == name
        }
        if not epochs:
            raise KeyError(name)
        return epochs

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._parts))

    def __len__(self) -> int:
        return len({name for name, _ in self._parts})


class UsedSamples:
    """Digests of the samples that this rank trained on or skipped, by member and epoch; of the last two epochs."""

    def __init__(self, names: Sequence[str], used: Mapping[str, Mapping[int, bytes]] | None = None) -> None:
        """names: of the data's members. used: as `state` gives it, to go on from."""
        self._names = names
        self._waiting: dict[int, tuple[Place, bytes]] = {}
        self._used: dict[tuple[str, int], bytearray] = {
            (name, epoch): bytearray(digests)
            for name, epochs in (used or {}).items()
            for epoch, digests in epochs.items()
        }

    def read(self, position: int, place: Place, digest: bytes) -> None:
        """A sample was read; it is not used yet."""
        self._waiting[position] = place, digest

    def use(self, positions: Iterable[int]) -> None:
        """Samples that were read are used."""
        for position in positions:
            place, digest = self._waiting.pop(position)
            key = self._names[place.member], place.epoch
            if key not in self._used:
                self._forget(*key)
            self._used.setdefault(key, bytearray()).extend(digest)

    def state(self) -> UsedView:
        """What is used by now: name of a member -> epoch -> digests, one after the other."""
        return UsedView({key: (digests, len(digests)) for key, digests in self._used.items()})

    def _forget(self, name: str, epoch: int) -> None:
        """Drop what lies more than one epoch before a new one; other ranks may still be in that one."""
        waiting = [place.epoch for place, _ in self._waiting.values() if self._names[place.member] == name]
        oldest = min([epoch, *waiting]) - 1
        self._used = {key: used for key, used in self._used.items() if key[0] != name or key[1] >= oldest}
