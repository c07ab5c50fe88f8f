"""Samples longer than a pack: they end the run, are left out, or are made shorter by the family.

See docs/data.md, Samples longer than a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cosmos_core.config.run import DataloaderConfig
from cosmos_core.data.source import UnreadableSample
from cosmos_core.errors import Problem, UserError

__all__ = ["OverlongSample", "PackLimit", "Shorten", "TooLongForPack"]

REASON = "longer than a pack"
FAMILY_KEY = "model.max_num_tokens_after_packing"
"""Behind the most tokens that a family takes."""

Shorten = Callable[[Any, Any, str, int], Any]
"""`ModelFamily.shorten`: record, prepared value, policy, most tokens."""


class OverlongSample(UnreadableSample):
    """A sample that is left out by the policy; it is counted, and never ends the run."""


class TooLongForPack(UserError):
    """A sample that ends the run by the policy."""


@dataclass(frozen=True, slots=True)
class PackLimit:
    """max_tokens: of a pack. below: a sample has fewer. policy: `overlong` of the loader. section: its name.

    caps: tokens that limit a pack, each with its key, the one that counts first.
    """

    max_tokens: int
    below: int
    policy: str
    section: str
    caps: tuple[tuple[int, str], ...]
    shorten: Shorten | None

    @classmethod
    def of(
        cls, config: DataloaderConfig, section: str, *, cap: int | None, shorten: Shorten | None
    ) -> PackLimit | None:
        """Of a section of the configuration. cap: most tokens that the family takes. None where nothing limits them."""
        given = {f"{section}.max_sequence_length": config.max_sequence_length, FAMILY_KEY: cap}
        caps = tuple(sorted((limit, key) for key, limit in given.items() if limit is not None))
        if not caps:
            return None
        most = caps[0][0]
        # A greedy pack stays strictly below its cap.
        return cls(most, most + (config.packing == "pool"), config.overlong, section, caps, shorten)

    def fit(self, sample: Any, value: Any, num_tokens: int, key: str) -> Any:
        """What takes the place of a value with too many tokens.

        Raises OverlongSample, or TooLongForPack under 'error'.
        """
        where = f"{key} ({num_tokens} tokens, fewer than {self.below} fit)"
        if self.policy == "error":
            raise self._too_large(key, num_tokens)
        if self.policy == "skip" or self.shorten is None:
            raise OverlongSample(where, REASON)
        try:
            return self.shorten(sample, value, self.policy, self.below - 1)
        except UnreadableSample as error:
            raise OverlongSample(where, f"{REASON}, and {error.reason}") from None

    def _too_large(self, key: str, num_tokens: int) -> TooLongForPack:
        first, *others = [key for limit, key in self.caps if limit + self.below - self.max_tokens <= num_tokens]
        problem = Problem(
            message=f"sample {key} takes {num_tokens} tokens and can never fit under {self.below}",
            key=first,
            hint=f"set {' and '.join(('it', *others))} above that, lower the resolution or the number of "
            f"frames, or leave such samples out: {self.section}.overlong=skip",
        )
        return TooLongForPack("a sample is larger than a whole micro-batch", [problem])
