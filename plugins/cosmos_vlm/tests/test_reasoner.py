"""The reasoner's network against transformers' own, packed against one by one, and which of its parts train."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen3VLForConditionalGeneration

from cosmos_core.data import Chat, Image, Item, Message, Video
from cosmos_core.distributed import CounterRng
from cosmos_core.errors import UserError
from cosmos_core.testing import check_family
from cosmos_vlm.batch import collate
from cosmos_vlm.chat_processor import IGNORE_INDEX, TokenizedConversation
from cosmos_vlm.config import Backbone, Freeze, VlmConfig
from tests.tiny_reasoner import family_of, media_of, network_of, noise, write_reasoner

VIDEO = Video(noise(3, 4, 64, 64, seed=3), (0.0, 0.5, 1.0, 1.5))
CHATS = {
    "text": Chat("text", (Message("user", ("Hello there",)), Message("assistant", ("Hi.",)))),
    "turns": Chat(
        "turns",
        (
            Message("system", ("Be brief.",)),
            Message("user", ("One?",)),
            Message("assistant", ("1",)),
            Message("user", ("Two?",)),
            Message("assistant", ("2, of course",)),
        ),
    ),
    "image": Chat("image", (Message("user", (Image(noise(3, 64, 96)), "What?")), Message("assistant", ("Noise",)))),
    "images": Chat(
        "images",
        (
            Message("user", (Image(noise(3, 64, 64, seed=1)), "and", Image(noise(3, 96, 64, seed=2)), "?")),
            Message("assistant", ("Both noise",)),
        ),
    ),
    "video": Chat("video", (Message("user", (VIDEO, "Rate it")), Message("assistant", ("4",)))),
}
SEEN = {
    **CHATS,
    "clip, then picture": Chat(
        "both",
        (
            Message("user", ("First", VIDEO, "then", Image(noise(3, 64, 96, seed=5)), "?")),
            Message("assistant", ("Both",)),
        ),
    ),
    "nine pictures": Chat(
        "heavy",
        (
            Message("user", tuple(part for seed in range(9) for part in (Image(noise(3, 64, 64, seed=seed)), "and"))),
            Message("assistant", ("Nine",)),
        ),
    ),
    "picture, then clip, over two turns": Chat(
        "turns",
        (
            Message("user", (Image(noise(3, 96, 64, seed=6)), "What?")),
            Message("assistant", ("Noise",)),
            Message("user", ("And", VIDEO, Image(noise(3, 64, 64, seed=7)))),
            Message("assistant", ("More of it",)),
        ),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("reasoner") / "tiny")


def oracle_logits(oracle: Any, dialog: TokenizedConversation) -> torch.Tensor:
    """Of one dialog from transformers' own forward, which computes positions by itself."""
    media = media_of(oracle.config, dialog.ids, dialog)
    return oracle(input_ids=dialog.ids[None], use_cache=False, **media).logits[0]


@pytest.mark.parametrize("kind", SEEN)
@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_transformers(tmp_path: Path, kind: str, tied: bool) -> None:
    folder = write_reasoner(tmp_path / "tiny", tied=tied)
    oracle = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    family = family_of(folder)
    network, dialog = network_of(family).eval(), family.prepare(SEEN[kind])
    with torch.no_grad():
        found = network.logits(network.hidden(collate([Item(0, dialog)])))
        expected = oracle_logits(oracle, dialog)
    assert expected.std() > 0.1
    assert float((found - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize("order", list(permutations(CHATS))[::23])
def test_packed_loss_and_gradients_equal_one_by_one(folder: Path, order: tuple[str, ...]) -> None:
    family = family_of(folder, activation_checkpointing=_plain())
    items = [Item(number, family.prepare(CHATS[kind])) for number, kind in enumerate(order)]
    gradients = []
    for batches in ([items], [[item] for item in items]):
        network = network_of(family)
        total = sum(family.training_step(network, collate(batch), CounterRng(0)).loss for batch in batches)
        total.backward()
        gradients.append(({name: value.grad for name, value in network.named_parameters()}, total.detach()))
    (packed, loss), (alone, expected) = gradients
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for name, value in alone.items():
        assert torch.allclose(packed[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max())), name


def _plain() -> Any:
    from cosmos_core.config import ActivationCheckpointing

    return ActivationCheckpointing(mode="none")


def test_the_chunked_loss_equals_the_plain_one(folder: Path) -> None:
    family = family_of(folder, loss_chunk_size=3)
    network = network_of(family)
    batch = collate([Item(number, family.prepare(chat)) for number, chat in enumerate(CHATS.values())])
    plain = cross_entropy(
        network.logits(network.hidden(batch)), batch.targets, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    assert float(network(batch).detach()) == pytest.approx(float(plain.detach()), rel=1e-5)


def test_text_alone_still_uses_the_tower(folder: Path) -> None:
    family = family_of(folder)
    network = network_of(family)
    family.training_step(network, collate([Item(0, family.prepare(CHATS["text"]))]), CounterRng(0)).loss.backward()
    grads = {name: value.grad for name, value in network.named_parameters() if ".visual." in name}
    assert grads
    assert all(grad is not None and not grad.any() for grad in grads.values())


def test_a_frozen_tower_rests_when_there_is_nothing_to_see(folder: Path) -> None:
    """The same loss with the tower at work; other ranks would need it."""
    family = family_of(folder, freeze=Freeze(freeze_vision_encoder=True, freeze_mm_projector=True))
    network = network_of(family)
    calls: list[int] = []
    network.model.visual.register_forward_pre_hook(lambda *_: calls.append(1))
    text, image = (collate([Item(0, family.prepare(CHATS[kind]))]) for kind in ("text", "image"))
    rested = network(text)
    assert not calls
    network(image)
    assert len(calls) == 1
    network.is_single_process = False
    assert float(network(text).detach()) == float(rested.detach())
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({"freeze_vision_encoder": True}, ("patch_embed", "visual.blocks", "pos_embed")),
        ({"freeze_mm_projector": True}, ("merger",)),
        ({"freeze_llm": True}, ("language_model", "lm_head")),
        ({"frozen_params": (r"model\.visual\.",)}, ("visual",)),
    ],
)
def test_parts_freeze(folder: Path, options: dict[str, Any], frozen: tuple[str, ...]) -> None:
    with torch.device("meta"):
        model = family_of(folder, freeze=Freeze(**options)).build()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != any(part in name for part in frozen), name


def trained(folder: Path, **options: Any) -> set[str]:
    with torch.device("meta"):
        model = family_of(folder, freeze=Freeze(**options)).build()
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("patterns", "parts"),
    [((r"merger", r"lm_head"), ("merger", "lm_head")), ((r"layers\.1\.",), ("layers.1.",)), ((".*",), ("",))],
)
def test_only_what_matches_trains(folder: Path, patterns: tuple[str, ...], parts: tuple[str, ...]) -> None:
    everything = trained(folder)
    assert trained(folder, trainable_params=patterns) == {
        name for name in everything if any(part in name for part in parts)
    }


def test_a_part_that_is_frozen_whole_stays_so_beside_what_trains(folder: Path) -> None:
    found = trained(folder, trainable_params=("visual", "lm_head"), freeze_vision_encoder=True)
    assert found == {name for name in trained(folder) if "merger" in name or "lm_head" in name}


def test_an_embedding_that_is_the_head_too_goes_by_both_names(tmp_path: Path) -> None:
    tied, embedding = write_reasoner(tmp_path / "tied", tied=True), "model.language_model.embed_tokens.weight"
    assert trained(tied, trainable_params=("lm_head",)) == {embedding}
    assert trained(tied, frozen_params=("lm_head",)) == trained(tied) - {embedding}


def test_another_backbone_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(folder, tmp_path / "other")
    config = json.loads((tmp_path / "other/config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(UserError, match="cannot be trained"):
        family_of(tmp_path / "other")


def test_missing_weights_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    family = family_of(folder)
    family.config = VlmConfig(
        precision="float32", backbone=Backbone(model_name=str(folder), safetensors_path=str(tmp_path / "none"))
    )
    with pytest.raises(UserError, match="do not fit"):
        network_of(family)


def test_the_family_conforms(folder: Path) -> None:
    config = VlmConfig(
        precision="float32",
        backbone=Backbone(model_name=str(folder)),
        image_min_pixels=1024,
        video_min_pixels=1024,
    )
    check_family("vlm", config, list(CHATS.values()))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_every_attention_gives_the_same_loss_and_gradients(folder: Path, implementation: str) -> None:
    """Bound: 1e-5 relative, for a pack of unequal dialogs and one of equal ones."""
    for kinds in (list(CHATS), ["image", "image"]):
        results = []
        for name in ("cosmos", implementation):
            family = family_of(folder, attn_implementation=name)
            network = network_of(family)
            loss = network(collate([Item(index, family.prepare(CHATS[kind])) for index, kind in enumerate(kinds)]))
            loss.backward()
            results.append((loss.detach(), {name: value.grad for name, value in network.named_parameters()}))
        (ours, mine), (theirs, other) = results
        assert float(abs(ours - theirs)) <= 1e-5 * float(theirs)
        for name, gradient in other.items():
            if gradient is not None:
                assert float((mine[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()) + 1e-7, name
