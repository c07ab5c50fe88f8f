"""The Hub client's progress of a download, shown as progress of a task."""

from __future__ import annotations

from typing import Any

from huggingface_hub.utils import tqdm

from cosmos_core.console import Progress

__all__ = ["bars_of"]


def bars_of(fetching: Progress) -> type[tqdm]:
    """A class of bars that draw nothing; the one that counts the bytes of all files counts for `fetching`."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Bytes from the network have a bar of their own; those on disk include what an earlier attempt left there.
            name = str(kwargs.get("name"))
            self._counts = kwargs.get("unit") == "B" and not name.endswith(".transfer")
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self._counts:
                fetching.total = self.total or 0
                fetching.advance(n or 0)

    return Bar
