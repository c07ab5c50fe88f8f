"""DCP checkpoints: written atomically, read without executing any code in them."""

from cosmos_core.checkpoint.atomic_directory import atomic_directory
from cosmos_core.checkpoint.load import Loaded, load_component, load_loader_states, load_model
from cosmos_core.checkpoint.reader import SafePlanner, SafeReader, not_plain, stored_keys
from cosmos_core.checkpoint.reading import read_each
from cosmos_core.checkpoint.safetensors import Entry, Written, write_shards
from cosmos_core.checkpoint.safetensors_open import open_safetensors, read_weight_map
from cosmos_core.checkpoint.save import SaveFailed, save_checkpoint
from cosmos_core.checkpoint.state import model_state
from cosmos_core.checkpoint.stream import DcpWriter, stored_tensors
from cosmos_core.checkpoint.weights import (
    DcpWeights,
    MergedWeights,
    OverlaidWeights,
    SafetensorsWeights,
    StoredWeights,
    TensorInfo,
    base_of_adapters,
    trained_weights,
)
from cosmos_core.plan.frozen_base import FrozenBase, fingerprint

__all__ = [
    "DcpWeights",
    "DcpWriter",
    "Entry",
    "FrozenBase",
    "Loaded",
    "MergedWeights",
    "OverlaidWeights",
    "SafePlanner",
    "SafeReader",
    "SafetensorsWeights",
    "SaveFailed",
    "StoredWeights",
    "TensorInfo",
    "Written",
    "atomic_directory",
    "base_of_adapters",
    "fingerprint",
    "load_component",
    "load_loader_states",
    "load_model",
    "model_state",
    "not_plain",
    "open_safetensors",
    "read_each",
    "read_weight_map",
    "save_checkpoint",
    "stored_keys",
    "stored_tensors",
    "trained_weights",
    "write_shards",
]
