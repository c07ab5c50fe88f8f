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
from cosmos_vfm.cache.folder import INDEX, LatentCache, described, write_index

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
        if not _is_readable(folder / INDEX):
            write_index(folder, video_tokenizer, text)  # It says only what the folder's name says.
        return LatentCache(folder, video_tokenizer, text, limit=data.cache_gib * 2**30)
    except OSError as error:
        logger.warning("latents are not kept, training encodes every clip: %s", described(error, folder))
        return None


def _is_readable(index: Path) -> bool:
    try:
        read_object(index)
    except UserError:
        return False
    return True
