"""The Mixture-of-Transformers network, with the framework's parameter names."""

from cosmos_vfm.network.model import Cosmos3Network
from cosmos_vfm.network.packed_inputs import PackedInputs

__all__ = ["Cosmos3Network", "PackedInputs"]
