"""From a name, a path or a Hub repository to files on this machine."""

from cosmos_core.hub.containment import OutsidePath, contained, find_media
from cosmos_core.hub.reachable import unreachable
from cosmos_core.hub.reference import Snapshot, fetch, locate_checkpoint
from cosmos_core.hub.repository import RepositoryFiles
from cosmos_core.hub.retries import with_retries

__all__ = [
    "OutsidePath",
    "RepositoryFiles",
    "Snapshot",
    "contained",
    "fetch",
    "find_media",
    "locate_checkpoint",
    "unreachable",
    "with_retries",
]
