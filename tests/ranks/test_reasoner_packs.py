"""Mixed dialogs on several ranks, text alone on some of them, against one process that takes them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.config import ActivationCheckpointing, DataloaderConfig, DatasetConfig
from cosmos_core.data import Chat, Image, Item, Message, Video
from cosmos_core.distributed import CounterRng, Mesh, local_mesh
from cosmos_core.distributed.runtime import mesh_of_group
from cosmos_core.plan import Degrees
from cosmos_core.train import BuildContext
from cosmos_core.train.weights import initialise_rest
from cosmos_vlm.batch import collate
from cosmos_vlm.chat_processor import IGNORE_INDEX
from cosmos_vlm.config import Backbone, VlmConfig
from cosmos_vlm.family import VlmFamily
from tests.ranks.forked import on_ranks
from tests.tiny_reasoner import write_reasoner

Gradients = dict[str, torch.Tensor]


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape))).to(torch.uint8)


def chat(said: str, *parts: Any) -> Chat:
    return Chat(said, (Message("user", (*parts, "What is it?")), Message("assistant", (said,))))


CLIP = Video(pixels(3, 4, 64, 64), (0.0, 0.5, 1.0, 1.5))
SHARES: dict[int, Sequence[Sequence[Chat]]] = {
    1: [[chat("text"), chat("a film", CLIP), chat("a picture", Image(pixels(3, 64, 96)))]],
    2: [
        [chat("only text"), chat("more of it")],
        [chat("a film", CLIP), chat("two", Image(pixels(3, 64, 64)), Image(pixels(3, 96, 64)))],
    ],
    4: [
        [chat("only text")],
        [chat("a film", CLIP)],
        [chat("text again"), chat("and again")],
        [chat("a picture", Image(pixels(3, 64, 96))), chat("text beside it")],
    ],
}
"""What each rank holds."""


def model_of(folder: Path, mesh: Mesh) -> tuple[VlmFamily, Any]:
    config = VlmConfig(
        backbone=Backbone(model_name=str(folder)),
        precision="float32",
        image_min_pixels=1024,
        video_min_pixels=1024,
        activation_checkpointing=ActivationCheckpointing(mode="selective"),
    )
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=4)
    family = VlmFamily(config, BuildContext(device=mesh.device, data=data))
    with torch.device("meta"):
        model: Any = family.build()
    family.parallelize(model, mesh)
    model.to_empty(device=mesh.device)
    initialise_rest(model, family, CounterRng(0))
    return family, model


def learned(family: VlmFamily, chats: Sequence[Chat]) -> int:
    return sum(int((family.prepare(one).labels[1:] != IGNORE_INDEX).sum()) for one in chats)


def gradients(family: VlmFamily, model: Any, packs: Sequence[Sequence[Chat]], total: float) -> Gradients:
    """Of the sum of the packs' losses over `total`."""
    losses = []
    for pack in packs:
        loss = model(collate([Item(index, family.prepare(one)) for index, one in enumerate(pack)])) / total
        loss.backward()
        losses.append(loss.detach())
    found = {name: value.grad for name, value in model.named_parameters()}
    whole = {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in found.items()}
    return {"loss": torch.stack(losses).sum(), **whole}


def one_rank(folder: Path) -> None:
    size = torch.distributed.get_world_size()
    mesh = mesh_of_group(Degrees(replicate=1, shard=size, context=1), torch.device("cpu"))
    family, model = model_of(folder / "tiny", mesh)
    shares = SHARES[size]
    total = sum(learned(family, share) for share in shares)
    # Sharding averages gradients over the ranks.
    found = gradients(family, model, [shares[mesh.rank]], total / size)
    loss = found["loss"] / size
    torch.distributed.all_reduce(loss)
    if mesh.rank == 0:
        torch.save({**found, "loss": loss}, folder / "found.pt")


@pytest.mark.ranks
@pytest.mark.parametrize("size", SHARES)
def test_packs_of_any_kinds_on_any_ranks_equal_dialogs_one_by_one(size: int, tmp_path: Path) -> None:
    """Bound: 1e-5 relative, float32; a rank without pictures passes through the tower like the others."""
    write_reasoner(tmp_path / "tiny")
    on_ranks(one_rank, size, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    family, model = model_of(tmp_path / "tiny", local_mesh(torch.device("cpu")))
    everyone = [one for share in SHARES[size] for one in share]
    expected = gradients(family, model, [[one] for one in everyone], learned(family, everyone))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= 1e-5 * float(value.norm()) + 1e-8, name
