"""Every mesh trains as one process does: FSDP2, HSDP, context parallelism and their products, in every mode.

All setups of a number of processes run in the same processes, so that one costs half a second of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from attrs import frozen
from PIL import Image

from cosmos_core.config.problems import render
from cosmos_core.distributed import Mesh, context, local_mesh
from cosmos_core.distributed.fsdp import full_tensor
from cosmos_core.distributed.runtime import mesh_of_group
from cosmos_core.errors import UserError
from cosmos_core.launch.train import plan_run
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin import PluginManager
from cosmos_core.train import Trainer, trainer
from cosmos_core.train.ahead import micro_batches_of
from cosmos_core.train.build import build_trainer
from cosmos_core.train.checkpointing import load_training_state
from cosmos_core.train.tracker import Tracker, TrackerGroup
from cosmos_data_bridge.writing import SyntheticOptions, write_synthetic
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from tests.ranks.forked import on_ranks
from tests.tiny_reasoner import write_reasoner

PLUGINS = PluginManager.discover()
BATCH, STEPS = 12, 2
MESHES = {
    1: [(1, 1, 1)],
    2: [(2, 1, 1), (1, 2, 1), (1, 1, 2)],
    4: [(4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2), (1, 1, 4)],
    6: [(2, 3, 1), (3, 1, 2), (2, 1, 3), (1, 1, 6)],
}
"""Degrees (shard, replicate, context) by number of processes."""
MODES = {
    "none": ("mode=none",),
    "selective": ("mode=selective",),
    "full": ("mode=full",),
    "half": ("mode=selective", "share=0.5"),
    "parts": ("mode=full", "parts=4"),
    "more parts than samples": ("mode=none", "parts=8"),
}
"""Settings of recomputation. 'auto' takes one of these; what it takes is a matter of the plan."""
COMMON = (
    "model.precision=float32",
    "model.init=random",
    f"trainer.max_iter={STEPS}",
    "scheduler.warm_up_steps=[0]",
    f"scheduler.cycle_lengths=[{STEPS}]",
    "scheduler.f_min=[1.0]",
    "optimizer.lr=1e-2",
    # Adam divides a gradient by its own size; far below eps it does not, and so keeps rounding errors small.
    "optimizer.eps=1e-3",
    "dataloader_train.num_workers=0",
)
ADAPTERS = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "model.ema.enabled=false")
CLIPS = (
    *("vision_sft_demo", "dataloader_train.dataset.path={root}/bridge", "dataloader_val.dataset.path={root}/bridge"),
    *("dataloader_train.dataset.min_window_frames=9", "dataloader_val.dataset.min_window_frames=9"),
    *("dataloader_val.max_samples_per_batch=1", "model.validation.noise_levels=[]"),
    "model.validation.caption_effect=false",
)
DIALOGS = (
    *("llava_ov", "model.backbone.model_name={root}/reasoner", "model.image_min_pixels=1024"),
    *('dataloader_train.dataset={{type="chat", path="{root}/dialogs"}}', "checkpoint.load_path=null"),
    "dataloader_train.max_sequence_length=null",
)
RECIPES = {
    "toy": ("hello", "model.noise=0.3"),
    "generator": CLIPS,
    "edge": (*CLIPS, "model.tier=tiny_edge"),
    "three_way": (*CLIPS, "model.joint_attn_implementation=three_way"),
    "reasoner": DIALOGS,
    "sdpa": (*DIALOGS, "model.attn_implementation=sdpa"),
}
"""Recipe and overrides, by what the tests call it."""
TWELVE_HEADS = NetworkConfig(hidden=64, layers=2, heads=12, kv_heads=2, head_dim=32, mlp=96, vocab=512)
"""In place of the size 'tiny': two context peers have a key-value head each, four and six share them."""


@frozen
class Setup:
    """One way to train.

    model: a key of `RECIPES`. degrees: shard, replicate, context; None: one process without a group. mode: a key of
    `MODES`. pieces: micro-batches of a step.
    """

    model: str
    degrees: tuple[int, int, int] | None = None
    mode: str = "none"
    lora: bool = False
    pieces: int = 1

    @property
    def label(self) -> str:
        """For messages."""
        mesh = "x".join(map(str, self.degrees or (1,)))
        return " ".join([self.model, mesh, self.mode, f"{self.pieces} pieces", *(["lora"] if self.lora else [])])


def setups(world: int) -> list[Setup]:
    """Every mesh of so many processes with the generator, the simpler ones with the reasoner, in turns of the rest.

    Two processes take every mode of recomputation with the generator, and with the reasoner on one mesh or the other.
    """
    chosen: list[Setup] = []
    for turn, degrees in enumerate(MESHES[world]):
        shard, replicate, peers = degrees
        pieces = next(count for count in (2, 3) if BATCH % (count * shard * replicate) == 0) if replicate == 2 else 1
        models = ["edge" if peers == 3 else "generator"]
        if peers == 1 and (world == 2 or replicate >= shard):
            models.append("reasoner")
        for model in models:
            several = tuple(MODES) if model == "generator" else tuple(MODES)[turn::2]
            for number, mode in enumerate(several if world == 2 else tuple(MODES)[turn % len(MODES) :][:1]):
                lora = (number + turn + turn // 4) % 2 == 1
                chosen.append(Setup(model, degrees, mode, lora, pieces))
    others = {
        1: [Setup("sdpa", (1, 1, 1), "full"), Setup("reasoner", (1, 1, 1), pieces=4)],
        2: [Setup("three_way", (1, 1, 2), "full"), Setup("sdpa", (1, 2, 1), "selective"), Setup("toy", (1, 1, 2))],
        4: [Setup("toy", (2, 2, 1), "full", pieces=3)],
    }
    return chosen + others.get(world, [])


def write_dialogs(folder: Path) -> None:
    """Dialogs whose answers have 1 to 61 letters, with pictures of different sizes, and every third without one."""
    folder.mkdir()
    rows = []
    for number in range(2 * BATCH):
        Image.new("RGB", (32, 32 * (1 + number % 3)), (10 * number, 90, 200)).save(folder / f"{number}.png")
        names = [] if number % 3 == 1 else [f"{number}.png"]
        question, answer = "<image>" * len(names) + "What?", "abcd" * (number % 16) + "e"
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append({"messages": turns, "images": names})
    (folder / "dialogs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("meshes")
    write_synthetic(root / "bridge", SyntheticOptions(train=2 * BATCH, val=7, seed=0, size=64, frames=9))
    write_dialogs(root / "dialogs")
    write_reasoner(root / "reasoner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODEL_SIZES, "tiny", TWELVE_HEADS)
        yield root


def planned(setup: Setup, root: Path, *more: str, world: int | None = None) -> RunPlan:
    """The run's plan; raises UserError."""
    shard, replicate, peers = setup.degrees or (1, 1, 1)
    recipe, *own = (text.format(root=root) for text in RECIPES[setup.model])
    overrides = (
        *(*COMMON, *own, *(ADAPTERS if setup.lora else ())),
        f"model.parallelism.data_parallel_shard_degree={shard}",
        f"model.parallelism.data_parallel_replicate_degree={replicate}",
        f"model.parallelism.context_parallel_shard_degree={peers}",
        *(f"model.activation_checkpointing.{setting}" for setting in MODES[setup.mode]),
        f"dataloader_train.max_samples_per_batch={BATCH // (shard * replicate * setup.pieces)}",
        f"trainer.grad_accum_iter={setup.pieces}",
        *more,
    )
    return plan_run(
        *(recipe, overrides),
        plugins=PLUGINS,
        nproc=world or shard * replicate * peers,
        default_nproc=1,
        fresh=False,
        output_root=root / "runs",
        notify=print,
    )


class Rows(list[dict[str, Any]], Tracker):
    """A tracker that keeps what is logged."""

    def log(self, row: dict[str, Any]) -> None:
        self.append(row)


def weights_of(run: Trainer) -> dict[str, torch.Tensor]:
    """All of them, whole, and the averages. Collective."""
    averages = run.ema.shadows if run.ema is not None else {}
    values = {**dict(run.model.named_parameters()), **{f"average of {name}": one for name, one in averages.items()}}
    return {name: full_tensor(value.detach()).clone() for name, value in values.items()}


def trained(setup: Setup, root: Path, *more: str) -> dict[str, Any]:
    """What is logged, and the weights before and after. Collective. more: overrides."""
    plan = planned(setup, root, *more)
    mesh = local_mesh() if setup.degrees is None else mesh_of_group(plan.degrees, torch.device("cpu"))
    run, rows = build_trainer(plan, PLUGINS, mesh), Rows()
    run.trackers = TrackerGroup({"rows": rows})
    load_training_state(run, plan.weights)
    start, batches = weights_of(run), micro_batches_of(run)
    for _ in range(STEPS):
        run.train_step(batches)
    if run.validation is not None:
        run.validate()
    told = {f"{name} {number}": row[name] for number, row in enumerate(rows) for name in TOLD if name in row}
    return {"told": told, "start": start, "end": weights_of(run)}


TOLD = ("loss", "grad_norm", "tokens", "val_loss")
FIGURES, CHANGES, ROUNDING = 1e-5, 1e-4, 1e-7
"""Relative bounds in float32, whose sums are in another order on every mesh: of what is logged (3e-7 seen); of what two
steps change in a weight (2e-5 seen), beside the rounding of the weight itself."""


def mismatches(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what differs by more than rounding."""
    assert found["told"].keys() == expected["told"].keys()
    assert found["end"].keys() == expected["end"].keys()
    wrong = [
        name for name, value in found["told"].items() if value != pytest.approx(expected["told"][name], rel=FIGURES)
    ]
    for name, value in expected["end"].items():
        start = expected["start"][name]
        bound = CHANGES * (value - start).norm() + ROUNDING * value.norm() if not torch.equal(value, start) else 0.0
        if (found["end"][name] - value).norm() > bound or not torch.equal(found["start"][name], start):
            wrong.append(name)
    return wrong


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[tuple[str, bool], dict[str, Any]]:
    """What one process does without recomputation, by model and whether adapters train."""
    pairs = dict.fromkeys((setup.model, setup.lora) for world in MESHES for setup in setups(world))
    return {pair: trained(Setup(pair[0], lora=pair[1]), place) for pair in pairs}


def train_all(folder: Path, root: Path) -> None:
    """Every setup of this number of processes."""
    MODEL_SIZES["tiny"] = TWELVE_HEADS
    found = {setup.label: trained(setup, root) for setup in setups(dist.get_world_size())}
    if dist.get_rank() == 0:
        torch.save(found, folder / "found.pt")


@pytest.mark.ranks
@pytest.mark.parametrize("world", MESHES)
def test_every_mesh_trains_as_one_process_does(
    place: Path, alone: dict[tuple[str, bool], dict[str, Any]], tmp_path: Path, world: int
) -> None:
    """Losses, gradient norms, validation, weights and their averages, full and with adapters, of unequal samples."""
    on_ranks(train_all, world, tmp_path, place)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    wrong = {setup.label: mismatches(found[setup.label], alone[setup.model, setup.lora]) for setup in setups(world)}
    assert not {label: names for label, names in wrong.items() if names}


RECOMPUTING = [
    *(Setup("generator", None, mode, lora) for lora in (False, True) for mode in tuple(MODES)[1:4]),
    *(Setup("reasoner", None, mode, lora) for lora in (False, True) for mode in tuple(MODES)[1:4]),
    *(Setup("toy", None, mode) for mode in tuple(MODES)[1:3]),
]


@pytest.mark.parametrize("setup", RECOMPUTING, ids=lambda setup: setup.label)
def test_recomputation_changes_no_bit(place: Path, alone: dict[tuple[str, bool], dict[str, Any]], setup: Setup) -> None:
    found, expected = trained(setup, place), alone[setup.model, setup.lora]
    assert found["told"] == expected["told"]
    assert all(torch.equal(found["end"][name], value) for name, value in expected["end"].items())


FAULTS = {
    "a factor of data ranks": Setup("generator", (1, 1, 2)),
    "a factor of context peers": Setup("generator", (1, 1, 2)),
    "replicas without a sum": Setup("reasoner", (1, 2, 1), pieces=2),
}


def train_faulty(folder: Path, root: Path) -> None:
    """With one factor or collective left out."""
    MODEL_SIZES["tiny"] = TWELVE_HEADS
    found = {}
    backward, required = context._Gather.backward, trainer.set_requires_all_reduce
    for name, setup in FAULTS.items():
        with pytest.MonkeyPatch.context() as patch:
            if name == "a factor of data ranks":
                patch.setattr(Mesh, "data_world", property(lambda mesh: mesh.world))
            elif name == "a factor of context peers":
                patch.setattr(
                    context._Gather, "backward", staticmethod(lambda ctx, grad: (backward(ctx, grad)[0] / 2, None))
                )
            else:
                patch.setattr(trainer, "set_requires_all_reduce", lambda model, last: required(model, False))
            found[name] = trained(setup, root)
    if dist.get_rank() == 0:
        torch.save(found, folder / "found.pt")


@pytest.mark.ranks
def test_a_wrong_factor_would_be_noticed(
    place: Path, alone: dict[tuple[str, bool], dict[str, Any]], tmp_path: Path
) -> None:
    on_ranks(train_faulty, 2, tmp_path, place)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, setup in FAULTS.items():
        assert len(mismatches(found[name], alone[setup.model, setup.lora])) > 10, name


@pytest.mark.parametrize(
    ("setup", "world", "more", "told"),
    [
        (
            Setup("edge", (1, 1, 2)),
            2,
            (),
            "context_parallel_shard_degree: is 2, which does not divide the 3 heads of model size 'tiny_edge'",
        ),
        (Setup("reasoner", (1, 1, 2)), 2, (), "context_parallel_shard_degree: the reasoner does not split sequences"),
        (Setup("generator", (4, 1, 1)), 6, (), "shard 4 x replicate 1 x context 1 cannot be 6 processes"),
        (Setup("generator", (2, 1, 2)), 6, (), "shard 2 x replicate 1 x context 2 cannot be 6 processes"),
        (
            Setup("generator", (2, 1, 1)),
            2,
            ("model.parallelism.cfg_parallel_shard_degree=2",),
            "cfg_parallel_shard_degree: must be 1 in training",
        ),
    ],
    ids=["heads", "reasoner", "shards", "context", "guidance"],
)
def test_a_mesh_that_cannot_be_is_refused_before_anything_starts(
    place: Path, setup: Setup, world: int, more: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError) as refusal:
        planned(setup, place, *more, world=world)
    assert len(refusal.value.problems) == 1
    assert told in render(refusal.value)
