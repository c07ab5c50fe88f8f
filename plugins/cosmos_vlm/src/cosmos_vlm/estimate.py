"""What training of the reasoner costs, from the meta device and the lengths of usual dialogs."""

from __future__ import annotations

from typing import Any

import torch

from cosmos_core.attention import LayerMemory, layer_memory
from cosmos_core.config import RunConfig, TypicalSample
from cosmos_core.distributed import dtype
from cosmos_core.optim import inject_lora, select_trainable, trains_only_lora
from cosmos_core.plan import Estimate, overlong_notes, usual_samples
from cosmos_core.train import Backward, count_parameters
from cosmos_vlm.architecture import cut
from cosmos_vlm.blocks import LANGUAGE_REGIONS, TOWER_REGIONS
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.flops import BackwardOfParts, language_flops, tower_flops
from cosmos_vlm.freeze import freeze
from cosmos_vlm.network import ReasonerNetwork
from cosmos_vlm.processor_files import PixelLimits, chosen_limits
from cosmos_vlm.published_sizes import sizes_of
from cosmos_vlm.vision import MERGE, PATCH, TEMPORAL, fit_image, fit_video

__all__ = ["estimate"]

LANGUAGE, TOWER = "language model", "vision tower"
USUAL = TypicalSample(frames=1, height=500, width=620, text=110)
"""Where a dataset does not say what its samples are: a picture with a question and an answer."""
LEARNED = 0.6
"""Share of a dialog's text that is learned."""
LOSS_BYTES, COMPILED_LOSS_BYTES = 21, 8
"""For each logit of a chunk: logits and gradient in bfloat16, float32 copies of them, and a mask."""
MERGER_TENSORS = 5
"""Activations of a merger, of its inner width: it is never recomputed."""
EAGER_TENSORS = 2.0
"""Hidden states a layer of the tower that the allocator keeps unused when the tower is not compiled: fitted to the rows
of test_estimate_reasoner.py, not derived; `tests/benchmarks/memory_table.py` fits it anew."""
CORE_SECONDS, CORE_SECONDS_A_PIXEL = 0.001, (60e-9, 90e-9)
"""On one core, to read and tokenize a dialog; to read and resize a pixel of a picture and of a kept frame of a video,
which includes frames that are decoded and left out. Measured with JPEG and mp4 files of 300 to 500 kilopixels."""
LAUNCH_SECONDS = 0.011
"""That the host takes for a layer, forward and backward: the least that a layer takes however short a pack is. Measured
with one dialog a pack, 12 and 36 layers of the language model (tests/benchmarks/RESULTS.md)."""
COMPILED, EAGER = (0.40, 0.58), (0.36, 0.48)
"""Share of a GPU's peak that a step's products run at (tests/benchmarks/RESULTS.md)."""


class _Dialogs:
    """Tokens and patches of a full micro-batch."""

    def __init__(self, config: RunConfig, model: VlmConfig, sample: TypicalSample | None) -> None:
        self.each = sample or config.dataloader_train.typical or USUAL
        self.seqlens = _patches(self.each, model)
        self.visual = sum(self.seqlens) // MERGE**2
        self.length = self.visual + self.each.text
        self.count = usual_samples(config.dataloader_train, self.length)
        self.tokens, self.patches = round(self.count * self.length), round(self.count * sum(self.seqlens))
        self.learned = round(self.count * LEARNED * self.each.text)


def _patches(sample: TypicalSample, model: VlmConfig) -> list[int]:
    """Patches of each frame that the tower sees: of pictures, or of pairs of a video's frames."""
    if sample.frames == 0:
        return []
    limits = chosen_limits(model, PixelLimits())
    if sample.frames == 1:
        rows, columns = fit_image(sample.height, sample.width, *limits.image)
        return [rows * columns // PATCH**2] * sample.pictures
    rows, columns = fit_video(sample.frames, sample.height, sample.width, *limits.video)
    return [rows * columns // PATCH**2] * -(-sample.frames // TEMPORAL)


def estimate(config: RunConfig, sample: TypicalSample | None = None, memory: float | None = None) -> Estimate:
    """Of `config`, whose family is the reasoner's; arguments as of `ModelFamily.estimate`."""
    model = config.model
    assert isinstance(model, VlmConfig)
    architecture, dialogs = sizes_of(model.backbone), _Dialogs(config, model, sample)
    if model.num_layers is not None:
        cut(architecture, model.num_layers)
    with torch.device("meta"):
        network = ReasonerNetwork(architecture, model.loss_chunk_size)
    freeze(network, model.freeze)
    inject_lora(network, model)
    select_trainable(network, config.optimizer.keys_to_select)
    parts = BackwardOfParts.of(network)
    stacks = _memories(network, dialogs, model, parts)
    text = architecture.text_config
    modes = stacks[LANGUAGE].kept
    return Estimate(
        parameters=count_parameters(network, network.blocks),
        sample=_described(dialogs),
        samples=dialogs.count,
        tokens=dialogs.tokens,
        kept={
            mode: {**{name: part.kept[mode] for name, part in stacks.items()}, "loss": _loss_kept(dialogs, text)}
            for mode in modes
        },
        working={mode: max(part.working[mode] for part in stacks.values()) for mode in modes},
        held=_gradient_of_head(text, parts),
        loss=(COMPILED_LOSS_BYTES if model.compile.enabled else LOSS_BYTES)
        * min(model.loss_chunk_size, dialogs.learned)
        * text.vocab_size,
        fragmented=0.0 if model.compile.enabled else _fragmented(dialogs, architecture.vision_config, parts),
        flops=_flops(architecture, dialogs, parts),
        recomputed=_recomputed(architecture, dialogs, parts),
        layers={TOWER: architecture.vision_config.depth, LANGUAGE: text.num_hidden_layers},
        host_seconds=LAUNCH_SECONDS * _launched_layers(architecture, parts),
        core_seconds=dialogs.count * _core_seconds(dialogs.each),
        width=text.hidden_size,
        notes=overlong_notes(config.dataloader_train, dialogs.length),
        utilisation=COMPILED if model.compile.enabled else EAGER,
        adapters=trains_only_lora(network),
    )


def _memories(
    network: ReasonerNetwork, dialogs: _Dialogs, config: VlmConfig, parts: BackwardOfParts
) -> dict[str, LayerMemory]:
    """Of the language model's layers and of the tower's, those that gradients go through."""
    language: Any = network.model.language_model
    tower: Any = network.model.visual
    text, vision = network.config.text_config, network.config.vision_config
    precision = dtype(config.precision)
    memories = {}
    with torch.device("meta"):
        # Hidden states, and the cosines and sines of a head.
        tokens = torch.empty(1, dialogs.tokens, text.hidden_size, dtype=precision)
        angles = torch.empty(1, dialogs.tokens, text.head_dim, dtype=precision)
        patches = torch.empty(dialogs.patches, vision.hidden_size, dtype=precision)
        tower_angles = torch.empty(dialogs.patches, vision.hidden_size // vision.num_heads)
    streams: tuple[tuple[str, Any, Any, torch.Tensor, torch.Tensor, float, Backward], ...] = (
        (LANGUAGE, language.layers, LANGUAGE_REGIONS, tokens, angles, 0.0, parts.language),
        (TOWER, tower.blocks, TOWER_REGIONS, patches, tower_angles, _mergers(dialogs, vision), parts.tower),
    )
    for name, blocks, regions, hidden, rotation, ends, backward in streams:
        if backward is Backward.NONE or not hidden.numel():
            memories[name] = LayerMemory(*({"none": 0.0, "selective": 0.0, "full": 0.0} for _ in range(2)))
            continue
        inputs = rotation, torch.empty_like(rotation)
        one = layer_memory(blocks[0].to(precision), regions, hidden, inputs, config.compile)
        kept = {mode: len(blocks) * value + ends for mode, value in one.kept.items()}
        memories[name] = LayerMemory(kept, one.working)
    return memories


def _loss_kept(dialogs: _Dialogs, text: Any) -> float:
    """Gradients of hidden states, which the loss computes in the forward pass, and both ends' states, in 16 bits."""
    return 2.0 * (2 * dialogs.learned * text.hidden_size + 3 * dialogs.tokens * text.hidden_size)


def _gradient_of_head(text: Any, parts: BackwardOfParts) -> dict[str, float]:
    """In 16 bits; the loss computes it in the forward pass, too."""
    return (
        {"gradient of the head": 2.0 * text.vocab_size * text.hidden_size} if parts.language is Backward.WEIGHTS else {}
    )


def _mergers(dialogs: _Dialogs, vision: Any) -> float:
    """What the tower keeps besides its blocks' activations, in 16 bits."""
    count = 1 + len(vision.deepstack_visual_indexes)
    return 2.0 * count * MERGER_TENSORS * dialogs.patches * float(vision.hidden_size)


def _fragmented(dialogs: _Dialogs, vision: Any, parts: BackwardOfParts) -> float:
    """What the allocator keeps unused, of a tower that is not compiled, in 16 bits."""
    through = parts.tower is not Backward.NONE
    return 2.0 * EAGER_TENSORS * vision.depth * dialogs.patches * float(vision.hidden_size) if through else 0.0


def _flops(architecture: Any, dialogs: _Dialogs, parts: BackwardOfParts) -> float:
    text, vision = architecture.text_config, architecture.vision_config
    learned = round(dialogs.learned / dialogs.count)
    language = language_flops(text, [dialogs.length], learned, parts.language)
    return dialogs.count * (language + tower_flops(vision, dialogs.seqlens, parts.tower, parts.mergers))


def _recomputed(architecture: Any, dialogs: _Dialogs, parts: BackwardOfParts) -> dict[str, dict[str, float]]:
    """FLOPs of the second forward pass of layers that gradients go through.

    Attention is repeated under 'full' only, the down projection of the MLP never.
    """
    text, vision = architecture.text_config, architecture.vision_config
    recomputed: dict[str, dict[str, float]] = {"none": {}, "selective": {}, "full": {}}
    if parts.language is not Backward.NONE:
        whole = language_flops(text, [dialogs.length], 0, Backward.NONE)
        mixing = 2 * text.num_attention_heads * text.head_dim * text.num_hidden_layers * dialogs.length**2
        whole -= 2 * text.hidden_size * text.intermediate_size * text.num_hidden_layers * dialogs.length
        recomputed["selective"][LANGUAGE] = dialogs.count * (whole - mixing)
        recomputed["full"][LANGUAGE] = dialogs.count * whole
    if parts.tower is not Backward.NONE:
        whole = tower_flops(vision, dialogs.seqlens, Backward.NONE, Backward.NONE)
        mixing = 4 * vision.hidden_size * vision.depth * sum(length**2 for length in dialogs.seqlens)
        whole -= 2 * vision.hidden_size * vision.intermediate_size * vision.depth * sum(dialogs.seqlens)
        recomputed["selective"][TOWER] = dialogs.count * (whole - mixing)
        recomputed["full"][TOWER] = dialogs.count * whole
    return recomputed


def _launched_layers(architecture: Any, parts: BackwardOfParts) -> float:
    """Layers, of which those that no gradient goes through launch only the forward pass, a third."""
    stacks = (
        (architecture.vision_config.depth, parts.tower),
        (architecture.text_config.num_hidden_layers, parts.language),
    )
    return sum(number * (1 / 3 if backward is Backward.NONE else 1) for number, backward in stacks)


def _core_seconds(sample: TypicalSample) -> float:
    a_pixel = CORE_SECONDS_A_PIXEL[0 if sample.frames == 1 else 1]
    return CORE_SECONDS + sample.pictures * sample.frames * sample.height * sample.width * a_pixel


def _described(dialogs: _Dialogs) -> str:
    each = dialogs.each
    pictures = "a picture" if each.pictures == 1 else f"{each.pictures} pictures"
    media = {0: "text alone", 1: f"{pictures} of {each.width}x{each.height}"}
    what = media.get(each.frames, f"a video of {each.width}x{each.height} with {each.frames} frames")
    return f"{what}: {dialogs.visual:,} visual and {each.text:,} text tokens"
