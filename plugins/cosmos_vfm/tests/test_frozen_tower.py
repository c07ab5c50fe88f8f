"""Cost of a frozen understanding tower: weights in bfloat16, one forward pass without gradients."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from attrs import evolve

from cosmos_core.config import Compile
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import CounterRng, process_group, to_local
from cosmos_core.plan import Degrees
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train import BuildContext
from cosmos_vfm.batch import Prepared
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.packing import SequenceSpec
from tests.benchmarks.running import batches_of, fresh_model, trainer_of

SHAPES = ((3, 4, 4), (1, 4, 6), (2, 6, 4))


def items() -> list[Item]:
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(48, *shape, generator=generator) for shape in SHAPES]
    specs = [SequenceSpec((5, 6, 7), shape, 24.0, 0) for shape in SHAPES]
    prepared = [Prepared(f"clip{place}", *pair) for place, pair in enumerate(zip(latents, specs, strict=True))]
    return [Item(place, one) for place, one in enumerate(prepared)]


def is_text(name: str) -> bool:
    """Parameters of the tower that the recipe freezes."""
    return not any(key in name for key in ("moe_gen", "time_embedder", "vae2llm", "llm2vae"))


@pytest.mark.parametrize("recompute", ["full", "selective", "none"])
def test_a_step_of_the_nano_recipe_runs_the_frozen_tower_forward_once_and_nothing_else(recompute: str) -> None:
    overrides = ["model.tier=tiny", "model.init=random", "model.text_tokenizer.type=words", "trainer.grad_accum_iter=1"]
    overrides += [f"model.activation_checkpointing.mode={recompute}", "model.tokenizer.type=block_dct"]
    config = resolve("vision_sft_nano", overrides, plugins=PluginManager.discover()).config
    config = evolve(config, model=evolve(config.model, compile=Compile(enabled=False)))
    with process_group(Degrees(replicate=1, shard=1, context=1), mixed_precision=True) as mesh:
        family = VfmFamily(config.model, BuildContext(mesh.device, config.dataloader_train))
        model: Any = fresh_model(config, family, mesh, CounterRng(1))
        passes: Counter[str] = Counter()

        def watch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            assert not torch.is_grad_enabled()
            assert inputs[0].dtype == module.up_proj.weight.dtype == torch.bfloat16
            passes["text"] += 1

        for layer in model.layers:
            layer.mlp.register_forward_pre_hook(watch)
        before = {name: to_local(value.detach()).clone() for name, value in model.named_parameters()}
        run = trainer_of(config, family, model, mesh)
        batches = batches_of(run, [MicroBatch(items(), {}), MicroBatch(items(), {})])
        run.train_step(batches)
        run.train_step(batches)
        # The last layer's text output is read by nobody and not computed.
        assert passes["text"] == 2 * (len(model.layers) - 1)
        assert run.ema is not None
        trained = {name for name, value in model.named_parameters() if value.requires_grad}
        assert {name for name in before if is_text(name)} == set(before) - trained
        assert set(run.ema.shadows) == trained
        names = {value: name for name, value in model.named_parameters()}
        assert {names[value] for value in run.optimizer.state} == trained
        for name, value in model.named_parameters():
            assert value.dtype == (torch.float32 if name in trained else torch.bfloat16), name
            assert value.grad is None
            if name not in trained:
                assert torch.equal(to_local(value.detach()), before[name]), name
        moved = [not torch.equal(to_local(value.detach()), before[name]) for name, value in model.named_parameters()]
        assert sum(moved) == len(trained)
