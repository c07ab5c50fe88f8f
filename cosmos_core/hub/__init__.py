"""From a name, a path or a Hub repository to files on this machine."""

from cosmos_core.hub.containment import OutsidePath, contained, find_media
from cosmos_core.hub.reference import Snapshot, fetch, locate_checkpoint

__all__ = ["OutsidePath", "Snapshot", "contained", "fetch", "find_media", "locate_checkpoint"]
