"""Reasoner checkpoints: merged from a generator's, exported for transformers."""

from cosmos_vlm.checkpoints.export import export_adapter, export_weights
from cosmos_vlm.checkpoints.merge import merge_onto_tower

__all__ = ["export_adapter", "export_weights", "merge_onto_tower"]
