"""The Mixture-of-Transformers network, with the parameter names of cosmos-framework."""

from cosmos_vfm.network.model import Cosmos3Network
from cosmos_vfm.network.packed_inputs import PackedInputs

__all__ = ["Cosmos3Network", "PackedInputs"]
