"""Attention over packed sequences: their layout, the kernels, attention in parts, and layers around attention."""

from cosmos_core.attention.kernels import (
    SequenceMask,
    dense_attention,
    describe_kernels,
    faster_with,
    packed_attention,
    sdpa_backends,
)
from cosmos_core.attention.merge import OutputLse, attention_with_lse, merge_attentions
from cosmos_core.attention.packed import PackedSequences, PaddedBatches
from cosmos_core.attention.regions import AttentionRegions, RegionFunctions
from cosmos_core.attention.rotation import rotate
from cosmos_core.attention.saved import LayerMemory, layer_memory

__all__ = [
    "AttentionRegions",
    "LayerMemory",
    "OutputLse",
    "PackedSequences",
    "PaddedBatches",
    "RegionFunctions",
    "SequenceMask",
    "attention_with_lse",
    "dense_attention",
    "describe_kernels",
    "faster_with",
    "layer_memory",
    "merge_attentions",
    "packed_attention",
    "rotate",
    "sdpa_backends",
]
