"""Model FLOPs of the reasoner: what torch counts in a training step, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cosmos_core.config import ActivationCheckpointing
from cosmos_core.data import Chat, Image, Item, Message
from cosmos_core.distributed import CounterRng
from cosmos_core.train import Backward
from cosmos_vlm.config import Freeze
from cosmos_vlm.flops import BackwardOfParts, language_flops, tower_flops
from tests.tiny_reasoner import family_of, network_of, write_reasoner

ALL = BackwardOfParts(Backward.WEIGHTS, Backward.WEIGHTS, Backward.WEIGHTS)
CASES = {
    "everything trains": ({}, ALL),
    "the tower is frozen": (
        {"freeze_vision_encoder": True},
        BackwardOfParts(Backward.NONE, Backward.WEIGHTS, Backward.WEIGHTS),
    ),
    "the mergers train alone": (
        {"freeze_vision_encoder": True, "freeze_llm": True},
        BackwardOfParts(Backward.NONE, Backward.WEIGHTS, Backward.INPUTS),
    ),
    "the tower trains alone": (
        {"freeze_mm_projector": True, "freeze_llm": True},
        BackwardOfParts(Backward.WEIGHTS, Backward.INPUTS, Backward.INPUTS),
    ),
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("backbone"))


@pytest.mark.parametrize("case", CASES)
def test_linear_layers_cost_what_torch_counts(backbone: Path, case: str) -> None:
    freeze, parts = CASES[case]
    family = family_of(backbone, freeze=Freeze(**freeze), activation_checkpointing=ActivationCheckpointing(mode="none"))
    model = network_of(family)
    picture = Image(torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8))
    chats = [
        Chat("seen", (Message("user", (picture, "What is it?")), Message("assistant", ("A house.",)))),
        Chat("read", (Message("user", ("Who?",)), Message("assistant", ("Nobody at all.",)))),
    ]
    batch = family.collate([Item(index, family.prepare(chat)) for index, chat in enumerate(chats)])
    counter = FlopCounterMode(display=False)
    with counter:
        output = family.training_step(model, batch, CounterRng(0))
        output.loss.backward()
    counts = counter.get_flop_counts()["Global"]
    counted = sum(flops for name, flops in counts.items() if str(name) in {"aten.mm", "aten.addmm"})
    text, vision = family.architecture.text_config, family.architecture.vision_config
    assert BackwardOfParts.of(model) == parts
    causal = 2 * text.num_attention_heads * text.head_dim * text.num_hidden_layers
    attention = causal * sum(length**2 for length in batch.lengths) * parts.language.attention
    squares = sum(length**2 for length in batch.vision_seqlens)
    attention += 4 * vision.hidden_size * vision.depth * squares * parts.tower.attention
    language = language_flops(text, batch.lengths, len(batch.target_indices), parts.language)
    assert output.flops == language + tower_flops(vision, batch.vision_seqlens, parts.tower, parts.mergers)
    # The gradient of the head's weights is an in-place product, which torch does not count.
    head = 2 * text.hidden_size * text.vocab_size * len(batch.target_indices)
    uncounted = head if parts.language is Backward.WEIGHTS else 0
    assert counted + uncounted == output.flops - attention
