"""Assertions that every dataset and every model family must satisfy."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DataloaderConfig, DatasetConfig
from cosmos_core.data.samples import Chat, Image, Item, VideoText
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.plugin.descriptors import DatasetSpec, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.family import BuildContext
from cosmos_core.train.weights import initialise_rest

__all__ = ["check_dataset", "check_family"]


def check_dataset(config: DatasetConfig, *, plugins: PluginManager | None = None) -> list[Any]:
    """Assert that a dataset is not empty, gives equal samples for equal draws, and can be pickled.

    Pixels of core's records must be tensors of bytes. Returns its first samples, for `check_family`.
    """
    registry = (plugins or PluginManager.discover()).registry
    source = registry.get(DatasetSpec, config.type).source.load()(config)
    assert len(source) > 0, "the dataset is empty"
    copy = pickle.loads(pickle.dumps(source))
    samples = []
    for index in range(min(4, len(source))):
        first, second = (data.get(index, np.random.default_rng(index)) for data in (source, copy))
        _assert_pixels(first, f"sample {index}")
        assert _same(first, second), f"sample {index} differs between two equal draws"
        samples.append(first)
    return samples


def check_family(
    task: str, config: ModelConfig, samples: Sequence[Any], *, plugins: PluginManager | None = None
) -> None:
    """Assert what the training loop relies on, with real samples on the CPU.

    The family builds on the meta device, initialises the same weights twice, gives the same loss and gradients however
    samples are packed, tells each sample's part of them if it tells any, draws noise by position, repeats validation
    exactly, and can be pickled.
    """
    registry = (plugins or PluginManager.discover()).registry
    # A mixture, so that the losses of samples are told.
    data = DataloaderConfig(mixture=(DatasetConfig(type="none", weight=1.0),), max_samples_per_batch=len(samples))
    context = BuildContext(device=torch.device("cpu"), data=data)
    family = pickle.loads(pickle.dumps(registry.get(ModelFamilySpec, task).family.load()(config, context)))
    model, twin = _built(family), _built(family)
    for (name, weight), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, other), f"{name} is initialised differently the second time"
    _assert_fills_only_the_given_names(family, _built(family), twin)
    items = [Item(position, family.prepare(sample)) for position, sample in enumerate(samples)]
    assert all(family.num_tokens(item.value) > 0 for item in items), "a sample takes no tokens"
    whole = _step(family, model, [items])
    _assert_close(_step(family, model, [[item] for item in items]), whole, "cut into single samples")
    _assert_close(_step(family, model, [items[::-1]]), whole, "in reverse order")
    _assert_close(_step(family, model, [items]), whole, "a second time")
    sums = [_validation(family, model, items) for _ in range(2)]
    assert "loss_denominator" in sums[0], "validation_step returns no 'loss_denominator'"
    assert sums[0] == sums[1], "validation differs between two runs"


def _assert_pixels(sample: Any, where: str) -> None:
    """Pixels of core's records are tensors of bytes, channels first."""
    media: list[tuple[Any, str]] = []
    if isinstance(sample, VideoText) and not hasattr(sample.video, "load"):
        media.append((sample.video, "[3, T, H, W]"))
    elif isinstance(sample, Chat):
        parts = [part for message in sample.messages for part in message.content if not isinstance(part, str)]
        media += [(part.pixels, "[3, H, W]" if isinstance(part, Image) else "[3, T, H, W]") for part in parts]
    for pixels, shape in media:
        tensor = isinstance(pixels, torch.Tensor)
        what = f"{pixels.dtype} {list(pixels.shape)}" if tensor else type(pixels).__name__
        sides = shape.count(",") + 1
        right = tensor and pixels.dtype == torch.uint8 and pixels.dim() == sides and pixels.shape[0] == 3
        assert right, f"{where}: pixels must be a uint8 tensor {shape}, not {what}"


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        return all(_same(getattr(first, name), getattr(second, name)) for name in first.__dataclass_fields__)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(_same(left, right) for left, right in zip(first, second, strict=True))
    return bool(first == second)


def _built(family: Any) -> torch.nn.Module:
    with torch.device("meta"):
        model = family.build()
    assert isinstance(model, torch.nn.Module)
    family.parallelize(model, local_mesh(torch.device("cpu")))
    model.to_empty(device="cpu")
    _poison(model, ())
    initialise_rest(model, family, CounterRng(0))
    unfilled = [name for name, value in _tensors(model).items() if bool(value.isnan().any())]
    assert not unfilled, f"initialize leaves {unfilled} unfilled"
    return model


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}


def _poison(model: torch.nn.Module, keep: Collection[str]) -> None:
    """Fill every floating-point tensor with NaN except `keep`."""
    for name, value in _tensors(model).items():
        if value.is_floating_point() and name not in keep:
            value.fill_(float("nan"))


def _assert_fills_only_the_given_names(family: Any, model: torch.nn.Module, twin: torch.nn.Module) -> None:
    """With every second tensor loaded, initialize gives the others the same values, and does not change the loaded."""
    loaded = list(dict(model.named_parameters()))[::2]
    for name in loaded:
        _tensors(model)[name].fill_(0.5)
    _poison(model, loaded)
    initialise_rest(model, family, CounterRng(0), loaded)
    for name, value in dict(model.named_parameters()).items():
        expected = torch.full_like(value, 0.5) if name in loaded else _tensors(twin)[name]
        assert torch.equal(value, expected), f"initialize treats {name} differently when other tensors are loaded"


def _step(family: Any, model: torch.nn.Module, batches: list[list[Item]]) -> dict[str, torch.Tensor]:
    """Loss, its denominator and gradients over micro-batches, as the loop sums them."""
    model.train()
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    denominator = 0.0
    parts: dict[str, torch.Tensor] = {}
    for items in batches:
        batch = family.collate(items).to(torch.device("cpu"))
        output = family.training_step(model, batch, CounterRng(0))
        assert output.loss.ndim == 0, "the loss is no scalar"
        assert torch.isfinite(output.loss), "the loss is not finite"
        assert output.tokens > 0, "no tokens are counted"
        output.loss.backward()
        total += output.loss.detach().double()
        denominator += family.loss_denominator(batch)
        if output.samples is not None:
            parts |= _parts(output.samples, items, output.loss.detach(), family.loss_denominator(batch))
    assert denominator > 0, "the loss denominator of a batch is zero"
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert gradients, "nothing gets a gradient"
    return {"loss": total, "loss_denominator": torch.tensor(denominator), **gradients, **parts}


def _parts(samples: torch.Tensor, items: list[Item], loss: torch.Tensor, denominator: float) -> dict[str, torch.Tensor]:
    """What each sample has in loss and denominator, by its position."""
    assert samples.shape == (2, len(items)), f"samples has the shape {tuple(samples.shape)}, not (2, {len(items)})"
    assert not samples.requires_grad, "samples has a gradient"
    for name, parts, whole in zip(("loss", "loss denominator"), samples, (float(loss), denominator), strict=True):
        assert abs(float(parts.sum()) - whole) <= 1e-4 * abs(whole), f"the samples' parts do not add up to the {name}"
    return {f"part of sample {item.position}": part for item, part in zip(items, samples.T, strict=True)}


def _assert_close(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], how: str) -> None:
    for name, value in expected.items():
        scale = float(value.abs().max()) or 1.0
        error = float((actual[name] - value).abs().max())
        assert error <= 1e-4 * scale, f"{name} differs by {error:g} when the batch comes {how}"


def _validation(family: Any, model: torch.nn.Module, items: list[Item]) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        sums = family.validation_step(model, family.collate(items).to(torch.device("cpu")), CounterRng(1))
    return {name: float(value) for name, value in sums.items()}
