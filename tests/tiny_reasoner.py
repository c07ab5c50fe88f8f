"""A tiny Qwen3-VL in a folder like the Hub's, the family on it, and the inputs of transformers' own model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

import cosmos_vlm
from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.train import BuildContext
from cosmos_core.train.weights import initialise_rest
from cosmos_vlm.chat_processor import TokenizedConversation
from cosmos_vlm.config import Backbone, VlmConfig
from cosmos_vlm.family import VlmFamily
from cosmos_vlm.vision import frame_pairs, tower_patches

__all__ = ["family_of", "media_of", "network_of", "noise", "pixels_of", "write_reasoner", "write_tokenizer"]

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
TEMPLATE = (Path(cosmos_vlm.__file__).parent / "backbones/tiny/chat_template.jinja").read_text()
"""What Qwen3-VL's own template makes of dialogs without tools (docs/models/reasoner.md, Chat template)."""
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen's pattern of pre-tokenization."""
PROCESSORS = {
    "preprocessor_config.json": {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16},
    "video_preprocessor_config.json": {"video_processor_type": "Qwen3VLVideoProcessor", "patch_size": 16},
}


def write_tokenizer(folder: Path, corpus: Sequence[str] = ()) -> dict[str, int]:
    """A byte-level tokenizer cut as Qwen's, with its special tokens; returns the ids of those.

    corpus: texts whose words are merged; without them there are 263 tokens.
    """
    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    core.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    if corpus:
        core.train_from_iterator(corpus, trainers.BpeTrainer(initial_alphabet=sorted(alphabet), show_progress=False))
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return {token: fast.convert_tokens_to_ids(token) for token in SPECIAL}


def write_reasoner(folder: Path, *, tied: bool = False, seed: int = 0) -> Path:
    """Write the model."""
    ids = write_tokenizer(folder)
    config = Qwen3VLConfig(
        tie_word_embeddings=tied,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        text_config={
            "vocab_size": 264,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "initializer_range": 0.2,
            "tie_word_embeddings": tied,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.2,
        },
    )
    torch.manual_seed(seed)
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    for name, settings in PROCESSORS.items():
        (folder / name).write_text(json.dumps(settings))
    return folder


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Bytes of these sizes, the same for the same seed."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def family_of(folder: Path, **options: Any) -> VlmFamily:
    """On the CPU, in float32, with small images; options: of its configuration."""
    settings = {"precision": "float32", "image_min_pixels": 1024, "video_min_pixels": 1024, **options}
    config = VlmConfig(backbone=Backbone(model_name=str(folder)), **settings)
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=4)
    return VlmFamily(config, BuildContext(device=torch.device("cpu"), data=data))


def network_of(family: VlmFamily) -> Any:
    """Built, with the backbone's weights."""
    with torch.device("meta"):
        model = family.build()
    family.parallelize(model, local_mesh(torch.device("cpu")))
    model.to_empty(device="cpu")
    initialise_rest(model, family, CounterRng(0))
    return model


def pixels_of(dialog: TokenizedConversation) -> torch.Tensor:
    """What the tower takes of a dialog's images and videos: float32 [p, 1536], as transformers' processor gives it."""
    return tower_patches(dialog.patches, frame_pairs(dialog.grids, dialog.num_frames), torch.float32)


def media_of(
    config: Any, ids: torch.Tensor, dialog: TokenizedConversation, grids: Sequence[tuple[int, int, int]] | None = None
) -> dict[str, torch.Tensor]:
    """Inputs of transformers' Qwen3-VL beside the ids [n] of a dialog, for its images and videos, or the first ones."""
    patches = pixels_of(dialog)
    names = {
        config.image_token_id: ("pixel_values", "image_grid_thw"),
        config.video_token_id: ("pixel_values_videos", "video_grid_thw"),
    }
    inputs: dict[str, list[torch.Tensor]] = {}
    pads, used = [token for token in ids.tolist() if token in names], 0
    for t, h, w in dialog.grids if grids is None else grids:
        values, places = names[pads[used // 4]]
        inputs.setdefault(values, []).append(patches[used : used + t * h * w])
        inputs.setdefault(places, []).append(torch.tensor([[t, h, w]]))
        used += t * h * w
    assert used == 4 * len(pads)
    types = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    return {"mm_token_type_ids": types[None], **{name: torch.cat(parts) for name, parts in inputs.items()}}
