"""What only an accelerator shows: no waiting in a step, attention backends through their own kernels, skipped updates.

Run them where there is one: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

from cosmos_core.config import Compile
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import CounterRng, Mesh, process_group
from cosmos_core.plan import Degrees
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train import BuildContext, Trainer
from cosmos_vfm.batch import Prepared
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.backends import describe_backend
from cosmos_vfm.packing import SequenceSpec, pack_inputs
from cosmos_vfm.sizes import NetworkConfig
from tests.benchmarks.running import batches_of, fresh_model, trainer_of
from tests.benchmarks.vlm_case import CASES, write_backbone
from tests.benchmarks.vlm_ours import Ours

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]
NETWORK = NetworkConfig(hidden=256, layers=2, heads=4, kv_heads=2, head_dim=128, mlp=512, vocab=512)
EQUAL = (SequenceSpec(tuple(range(100)), (4, 16, 20), 24.0, 0),) * 3
UNLIKE = (
    SequenceSpec(tuple(range(3, 300)), (1, 24, 26), 24.0, 0),
    SequenceSpec(tuple(range(40, 161)), (5, 14, 14), 5.0, 0),
    SequenceSpec(tuple(range(7, 220)), (3, 16, 24), 30.0, 1),
)


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with process_group(Degrees(replicate=1, shard=1, context=1), mixed_precision=True) as mesh:
        yield mesh


def packs(specs: tuple[SequenceSpec, ...]) -> Iterator[MicroBatch]:
    step = 0
    while True:
        latents = [torch.randn(48, *backend.shape) for backend in specs]
        pairs = zip(latents, specs, strict=True)
        prepared = [Prepared(f"clip{place}", *pair) for place, pair in enumerate(pairs)]
        yield MicroBatch([Item(step * len(specs) + place, one) for place, one in enumerate(prepared)], {}, 0.5)
        step += 1


def run_on(mesh: Mesh, *overrides: str) -> Trainer:
    """The nano recipe at a small size."""
    more = ("model.tier=tiny", "model.init=random", "model.text_tokenizer.type=words", "model.tokenizer.type=block_dct")
    config = resolve("vision_sft_nano", [*more, *overrides], plugins=PluginManager.discover()).config
    config = evolve(config, model=evolve(config.model, compile=Compile(enabled=False)))
    family = VfmFamily(config.model, BuildContext(mesh.device, config.dataloader_train))
    return trainer_of(config, family, fresh_model(config, family, mesh, CounterRng(1)), mesh)


def never_waits(run: Trainer, packs: Iterator[MicroBatch]) -> None:
    """torch refuses every call that would wait; figures are asked for a step later."""
    stream = batches_of(run, packs)
    for _ in range(3):
        run.train_step(stream)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            run.train_step(stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.flush()
    assert run.record["step"] == 6
    assert run.record["loss"] > 0


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("specs", [EQUAL, UNLIKE], ids=["equal", "unlike"])
def test_a_generator_step_never_waits_for_the_device(
    mesh: Mesh, specs: tuple[SequenceSpec, ...], recompute: str
) -> None:
    never_waits(run_on(mesh, f"model.activation_checkpointing.mode={recompute}"), packs(specs))


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("kind", ["smoke text", "smoke mixed"])
def test_a_reasoner_step_never_waits_for_the_device(mesh: Mesh, tmp_path: Path, kind: str, recompute: str) -> None:
    """Texts with a frozen tower; texts, pictures and clips with one that trains."""
    case = CASES[kind]
    ours = Ours(case, write_backbone(tmp_path / "backbone", case), mesh, recompute=recompute, compiled=False)
    never_waits(ours.run, ours.packs())


def test_a_step_with_infinite_gradients_is_skipped_on_the_device(mesh: Mesh) -> None:
    run = run_on(mesh)
    stream = batches_of(run, packs(EQUAL))
    run.callbacks = {}
    for _ in range(2):
        run.train_step(stream)
    run.flush()
    names = [name for name, value in run.model.named_parameters() if value.requires_grad]

    def snapshot() -> list[torch.Tensor]:
        assert run.ema is not None
        weights = [value.detach().full_tensor().clone() for value in run.optimizer.state]
        moments = [value["exp_avg"].full_tensor().clone() for value in run.optimizer.state.values()]
        return [*weights, *moments, *(run.ema.shadows[name].full_tensor().clone() for name in names)]

    before = snapshot()
    step = run.family.training_step

    def infinite(*arguments: Any) -> Any:
        output = step(*arguments)
        return evolve_output(output)

    def evolve_output(output: Any) -> Any:
        return type(output)(loss=output.loss * float("inf"), tokens=output.tokens)

    run.family.training_step = infinite  # type: ignore[method-assign]
    run.train_step(stream)
    run.flush()
    assert run.guard.in_a_row == 1
    assert all(torch.equal(old, new) for old, new in zip(before, snapshot(), strict=True))
    run.family.training_step = step  # type: ignore[method-assign]
    run.train_step(stream)
    run.flush()
    assert run.guard.in_a_row == 0
    assert not any(torch.equal(old, new) for old, new in zip(before[: len(names)], snapshot(), strict=False))


def result(backend: str, samples: tuple[SequenceSpec, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Velocity and gradients in bfloat16."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        network = Cosmos3Network(NETWORK, backend)
    for parameter in network.parameters():
        spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, spread)
    network.to(torch.bfloat16)
    inputs = pack_inputs(samples).to(torch.device("cuda"))
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(sum(sample.latent_tokens for sample in samples), 192, generator=generator)
    velocity = network(tokens.cuda().bfloat16(), torch.linspace(0.2, 0.8, len(samples)).cuda(), inputs)
    velocity.float().square().mean().backward()
    gradients = {name: value.grad.float() for name, value in network.named_parameters() if value.grad is not None}
    return velocity.detach().float(), gradients


@pytest.mark.parametrize("samples", [EQUAL, UNLIKE], ids=["equal", "unlike"])
@pytest.mark.parametrize("backend", ["three_way", "flex"])
def test_every_backend_gives_the_two_way_result(backend: str, samples: tuple[SequenceSpec, ...]) -> None:
    """Bound: 2e-2 relative in bfloat16, forward and for every gradient; three_way through NATTEN if it is there."""
    found, expected = result(backend, samples), result("two_way", samples)
    print(describe_backend(backend, torch.device("cuda")), "; NATTEN installed:", find_spec("natten") is not None)
    assert float((found[0] - expected[0]).norm()) <= 2e-2 * float(expected[0].norm())
    largest = max(float(value.norm()) for value in expected[1].values())
    for name, value in expected[1].items():
        assert float((found[1][name] - value).norm()) <= 2e-2 * max(float(value.norm()), 1e-2 * largest), name
