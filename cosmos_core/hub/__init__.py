"""From a name, a path or a Hub repository to files on this machine."""

from cosmos_core.hub.containment import contained
from cosmos_core.hub.reference import Snapshot, fetch, locate_checkpoint

__all__ = ["Snapshot", "contained", "fetch", "locate_checkpoint"]
