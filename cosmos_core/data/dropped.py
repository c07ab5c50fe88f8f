"""What a dataset leaves out by its own rules, by reason."""

from __future__ import annotations

from collections import Counter

from attrs import frozen

__all__ = ["Dropped", "Drops"]

MAX_EXAMPLES = 3


@frozen
class Dropped:
    """One reason. key: the option of the dataset that would change it, "" if there is none. examples: the first."""

    reason: str
    count: int
    key: str = ""
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Count, reason and examples."""
        examples = f" (such as {', '.join(self.examples)})" if self.examples else ""
        return f"{self.count} x {self.reason}{examples}"


class Drops:
    """Counts what is left out, reason by reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}

    def add(self, reason: str, example: str, key: str = "") -> None:
        """One more for that reason. key: as in Dropped."""
        self._counts[reason, key] += 1
        examples = self._examples.setdefault((reason, key), [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(example)

    def all(self) -> tuple[Dropped, ...]:
        """Every reason, in the order in which they first came."""
        return tuple(
            Dropped(reason, count, key, tuple(self._examples[reason, key]))
            for (reason, key), count in self._counts.items()
        )
