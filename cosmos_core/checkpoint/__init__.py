"""DCP checkpoints: written whole, read without executing anything."""

from cosmos_core.checkpoint.load import load_component, load_loader_states, load_model
from cosmos_core.checkpoint.reader import SafePlanner, SafeReader, stored_keys
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.checkpoint.state import model_state
from cosmos_core.checkpoint.stream import DcpWriter, stored_tensors

__all__ = [
    "DcpWriter",
    "SafePlanner",
    "SafeReader",
    "load_component",
    "load_loader_states",
    "load_model",
    "model_state",
    "save_checkpoint",
    "stored_keys",
    "stored_tensors",
]
