"""What training of the generator costs, from the meta device and the lengths of usual clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import evolve

from cosmos_core.attention import LayerMemory, layer_memory
from cosmos_core.config import RunConfig, TypicalSample
from cosmos_core.distributed import dtype
from cosmos_core.optim import inject_lora, select_trainable, trains_only_lora
from cosmos_core.plan import Estimate, overlong_notes, usual_samples
from cosmos_core.train import Backward, count_parameters
from cosmos_vfm.config import VfmConfig, compiles_encoder
from cosmos_vfm.flops import backward_of_towers, training_flops
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.layer import LATENT_REGIONS, TEXT_REGIONS, DecoderLayer
from cosmos_vfm.network.model import TOKEN_SIZE
from cosmos_vfm.network.patches import grid
from cosmos_vfm.tokenizer.encode_limit import BYTES_A_PIXEL, pixels_at_once
from cosmos_vfm.tokenizer.video import latent_shape

if TYPE_CHECKING:
    from cosmos_vfm.sizes import NetworkConfig

__all__ = ["estimate"]

USUAL = TypicalSample(frames=93, height=192, width=320, text=735)
"""Where a dataset does not say what its samples are: a clip of four seconds with a structured caption."""
VAE_PARAMETERS = 0.705e9
"""Of the Wan 2.2 VAE."""
VAE_SECONDS, COMPILED_VAE_SECONDS = 13.5e-9, 10e-9
"""To encode a pixel of a frame on an H100, eager and compiled: 1.6 and 1.2 s for a pack of 20.5 clips of 93 frames of
320x192 (tests/benchmarks/RESULTS.md)."""
CORE_SECONDS, CORE_SECONDS_A_PIXEL = 0.005, 25e-9
"""On one core, to read a clip's record, caption and latents, and to decode and resize a pixel of a frame: measured with
mp4 files of 480p that become 256p; larger files take longer."""
COMPILED, EAGER = (0.50, 0.60), (0.25, 0.45)
"""Share of a GPU's peak that a step's products run at (tests/benchmarks/RESULTS.md)."""


class _Clips:
    """Tokens of a full micro-batch."""

    def __init__(self, config: RunConfig, model: VfmConfig, sample: TypicalSample | None) -> None:
        self.each = sample or config.dataloader_train.typical or USUAL
        frames, rows, columns = latent_shape(self.each.frames, self.each.height, self.each.width)
        height, width = grid(rows, columns)
        latents = frames * height * width
        text = min(self.each.text, config.dataloader_train.max_caption_tokens)
        cap = model.max_num_tokens_after_packing if model.max_num_tokens_after_packing > 0 else None
        self.count = usual_samples(config.dataloader_train, text + latents + 1, cap)
        self.notes = overlong_notes(config.dataloader_train, text + latents + 1, cap)
        self.text, self.latents = round(self.count * text), round(self.count * latents)
        self.lengths = (text, latents)
        self.pixels = self.count * self.each.frames * self.each.height * self.each.width


def estimate(config: RunConfig, sample: TypicalSample | None = None, memory: float | None = None) -> Estimate:
    """Of `config`, whose family is the generator's; arguments as of `ModelFamily.estimate`."""
    model = config.model
    assert isinstance(model, VfmConfig)
    size, clips = model.network, _Clips(config, model, sample)
    with torch.device("meta"):
        network = Cosmos3Network(size)
    inject_lora(network, model)
    select_trainable(network, config.optimizer.keys_to_select)
    towers = backward_of_towers(network)
    layers = _layers_memory(network, clips, model, towers)
    text, latents = clips.lengths
    flops = clips.count * training_flops(size, [text], [latents], towers)
    tokenizer = model.tokenizer.type == "wan22"
    # A cache that the run fills is empty at first.
    from_pixels = config.dataloader_train.cache is None or config.dataloader_train.fills_cache
    online = tokenizer and from_pixels
    pixels_decoded = clips.pixels if from_pixels else 0.0
    encoding = COMPILED_VAE_SECONDS if compiles_encoder(config) else VAE_SECONDS
    return Estimate(
        parameters=count_parameters(network, network.layers, network.vocabulary),
        sample=_described(clips),
        samples=clips.count,
        tokens=clips.text + clips.latents,
        kept={mode: {"activations": value} for mode, value in layers.kept.items()},
        working=layers.working,
        fixed={"video tokenizer": VAE_PARAMETERS * 2} if tokenizer else {},
        before=_encoding(clips, memory) if online else 0.0,
        flops=flops,
        recomputed={mode: {"activations": value} for mode, value in _recomputed(size, clips, towers).items()},
        other_seconds=clips.pixels * encoding if online else 0.0,
        core_seconds=clips.count * CORE_SECONDS + pixels_decoded * CORE_SECONDS_A_PIXEL,
        width=size.hidden,
        notes=(*clips.notes, *((_encoded_at_once(clips, memory),) if online else ())),
        utilisation=COMPILED if model.compile.enabled else EAGER,
        adapters=trains_only_lora(network),
    )


def _layers_memory(
    network: Cosmos3Network, clips: _Clips, config: VfmConfig, towers: tuple[Backward, Backward]
) -> LayerMemory:
    """Kept by all layers, and worked with in one; of the understanding tower only if gradients go through it."""
    size = config.network
    layer = network.layers[0].to(dtype(config.precision))
    assert isinstance(layer, DecoderLayer)
    text, latents = _empty(clips.text, size.hidden, layer), _empty(clips.latents, size.hidden, layer)
    memory = layer_memory(
        layer,
        LATENT_REGIONS,
        latents,
        [_rotation(clips.latents, size, layer)],
        config.compile,
        other_keys=clips.text,
    )
    # Keys and values of the text are inputs of a layer that is recomputed as a whole.
    memory.kept["full"] += 2 * clips.text * size.kv_heads * size.head_dim * text.element_size()
    kept = {mode: size.layers * value for mode, value in memory.kept.items()}
    working = dict(memory.working)
    if towers[0] is not Backward.NONE:
        text_memory = layer_memory(
            layer,
            evolve(TEXT_REGIONS, pre_attention=_text_pre_attention),
            text,
            [_rotation(clips.text, size, layer)],
            config.compile,
        )
        kept = {mode: value + size.layers * text_memory.kept[mode] for mode, value in kept.items()}
        working = {mode: max(value, text_memory.working[mode]) for mode, value in working.items()}
    # Noise, noised latents and targets in float32, and the hidden states of both towers.
    ends = clips.latents * TOKEN_SIZE * 4 * 4 + text.nbytes + 2 * latents.nbytes
    return LayerMemory({mode: value + ends for mode, value in kept.items()}, working)


def _text_pre_attention(
    layer: DecoderLayer, text: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    q, _, rotated, values = layer.text_pre_attention(text, rotation)
    assert q is not None
    return q, rotated, values


def _empty(tokens: int, width: int, layer: DecoderLayer) -> torch.Tensor:
    return next(layer.parameters()).new_empty(tokens, width)


def _rotation(tokens: int, size: NetworkConfig, layer: DecoderLayer) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = (_empty(tokens, size.head_dim, layer)[:, None] for _ in range(2))
    return cos, sin


def _recomputed(size: NetworkConfig, clips: _Clips, towers: tuple[Backward, Backward]) -> dict[str, float]:
    """FLOPs of the second forward pass of what trains: without attention under 'selective', with it under 'full'.

    The down projection of the MLP is not repeated.
    """
    text, latents = clips.lengths
    tokens = sum(length for length, tower in zip((text, latents), towers, strict=True) if tower is not Backward.NONE)
    down = 2 * size.hidden * size.mlp * size.layers * tokens
    whole = _forward(size, text, latents, towers) - down
    linear = clips.count * (whole - _attention(size, text, latents, towers))
    return {"none": 0.0, "selective": linear, "full": clips.count * whole}


def _forward(size: NetworkConfig, text: int, latents: int, towers: tuple[Backward, Backward]) -> float:
    """Forward FLOPs of a clip in the towers that train."""
    both = training_flops(size, [text], [latents], (Backward.NONE, Backward.NONE))
    of_text = training_flops(size, [text], [0], (Backward.NONE, Backward.NONE))
    flops = (of_text, both - of_text)
    return sum(flop for flop, tower in zip(flops, towers, strict=True) if tower is not Backward.NONE)


def _attention(size: NetworkConfig, text: int, latents: int, towers: tuple[Backward, Backward]) -> float:
    q = size.layers * size.heads * size.head_dim
    own = 4 * q * latents * (text + latents) if towers[1] is not Backward.NONE else 0
    return float(own + (2 * q * text**2 if towers[0] is not Backward.NONE else 0))


def _encoding(clips: _Clips, memory: float | None) -> float:
    """Bytes while the clips of a micro-batch are encoded: activations of what is encoded at once, and all pixels."""
    return BYTES_A_PIXEL * min(clips.pixels, pixels_at_once(memory)) + 3 * clips.pixels


def _encoded_at_once(clips: _Clips, memory: float | None) -> str:
    share = pixels_at_once(memory) * clips.count / clips.pixels
    whole = f"{min(share, clips.count):.1f} of the {clips.count:.1f} clips of a pack"
    at_once = whole if share >= 1 else "parts of clips"
    return f"the video tokenizer encodes {at_once} at once"


def _described(clips: _Clips) -> str:
    each, (text, latents) = clips.each, clips.lengths
    return f"{each.width}x{each.height}, {each.frames} frames: {latents:,} vision and {text:,} text tokens"
