"""The Mixture-of-Transformers network, with the framework's parameter names."""

from cosmos_vfm.network.model import Cosmos3Network
from cosmos_vfm.network.pack import Pack

__all__ = ["Cosmos3Network", "Pack"]
