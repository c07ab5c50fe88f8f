"""Options that all datasets of local files share."""

from __future__ import annotations

from attrs import frozen

from cosmos_core.config.fields import option
from cosmos_core.config.run import DatasetConfig

__all__ = ["FileDatasetConfig"]


@frozen(kw_only=True)
class FileDatasetConfig(DatasetConfig):
    """Base of the table of a dataset that lists media files."""

    media_roots: tuple[str, ...] = option((), "Folders besides the dataset's own in which its media files may lie.")
