"""The caches that runs fill themselves: ``dataloader_train.cache = "auto"``."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

from cosmos_core.config import DataloaderConfig
from cosmos_core.errors import UserError
from cosmos_core.strict_json import read_object
from cosmos_vfm.cache.entry import FORMAT
from cosmos_vfm.cache.eviction import AUTOMATIC
from cosmos_vfm.cache.folder import INDEX, LatentCache, described

__all__ = ["open_automatic"]

logger = logging.getLogger(__name__)


def open_automatic(data: DataloaderConfig, video_tokenizer: str, text: str) -> LatentCache | None:
    """The cache of a video tokenizer in ``cache_dir``, made if it is not there; None where that cannot be written.

    Each video tokenizer and format has a folder of its own. Raises UserError when the folder holds another's.
    """
    if data.cache_dir is None:
        return None
    name = sha256(f"{FORMAT} {video_tokenizer}".encode()).hexdigest()[:16]
    folder = Path(data.cache_dir) / f"{AUTOMATIC}{name}"
    try:
        _remove_damaged(folder / INDEX)
        return LatentCache(folder, video_tokenizer, text, create=True, limit=data.cache_gib * 2**30)
    except OSError as error:
        logger.warning("latents are not kept, training encodes every clip: %s", described(error, folder))
        return None


def _remove_damaged(index: Path) -> None:
    """An index says only what the folder's name says, so that it can be written again."""
    if index.is_file():
        try:
            read_object(index)
        except UserError:
            index.unlink(missing_ok=True)
