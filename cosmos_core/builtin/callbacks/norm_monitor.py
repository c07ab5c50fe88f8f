"""Norms of weights and gradients, tensor by tensor and layer by layer."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import torch

from cosmos_core.builtin.config import NormMonitor
from cosmos_core.distributed.fsdp import full_tensor
from cosmos_core.strict_json import dumps
from cosmos_core.train.callback import Callback
from cosmos_core.train.tracker import Media
from cosmos_core.train.trainer import Trainer

__all__ = ["NormMonitorCallback"]

_LAYER = re.compile(r"(?:layers|blocks)\.(\d+)\.")


class NormMonitorCallback(Callback):
    """``norms.jsonl``: a record every `every_n` steps; ``norms.png``: gradient norm of each layer over the run.

    Gradients are those before clipping.
    """

    config: NormMonitor

    def before_optimizer_step(self, trainer: Trainer) -> None:
        """Measure, in the first step and every `every_n` after it."""
        if trainer.step % self.config.every_n:
            return
        names, weights, gradients = _norms(trainer)
        if not trainer.is_main:
            return
        if trainer.grad_norm is not None:
            # Clipping, which has run already, scales all gradients alike.
            gradients = gradients * (float(trainer.grad_norm) / max(float(gradients.norm()), 1e-30))
        record = {
            "step": trainer.step + 1,
            "total_param_l2_norm": float(weights.norm()),
            "total_grad_l2_norm": float(gradients.norm()),
            "layers": _by_layer(names, gradients),
            "weight_norm": dict(zip(names, weights.tolist(), strict=True)),
            "grad_norm": dict(zip(names, gradients.tolist(), strict=True)),
        }
        with (self.context.folder / "norms.jsonl").open("a", encoding="utf-8") as file:
            file.write(dumps(record) + "\n")

    def train_end(self, trainer: Trainer) -> None:
        """Draw."""
        path = self.context.folder / "norms.jsonl"
        if trainer.is_main and path.is_file():
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            picture = self.context.folder / "norms.png"
            _figure(records).savefig(picture, dpi=110)
            trainer.trackers.log_media(trainer.step, [Media("norms", picture)])


def _norms(trainer: Trainer) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Names of trained parameters, and L2 norms of weights and gradients, float32 [n] on the CPU; one host copy."""
    trained = [(name, value) for name, value in trainer.model.named_parameters() if value.requires_grad]
    device = trainer.mesh.device
    weights = torch.stack([full_tensor(value.detach().float().norm()).to(device) for _, value in trained])
    gradients = torch.stack(
        [
            torch.zeros((), device=device) if value.grad is None else full_tensor(value.grad.float().norm()).to(device)
            for _, value in trained
        ]
    )
    return [name for name, _ in trained], weights.cpu(), gradients.cpu()


def _by_layer(names: list[str], gradients: torch.Tensor) -> dict[str, float]:
    """Gradient norm of each numbered layer, and of the rest."""
    squares: dict[str, float] = defaultdict(float)
    for name, norm in zip(names, gradients.tolist(), strict=True):
        match = _LAYER.search(name)
        squares[match[1] if match else "rest"] += norm**2
    return {layer: value**0.5 for layer, value in squares.items()}


def _figure(records: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    layers = list(records[-1]["layers"])
    values = [[max(record["layers"].get(layer, 0.0), 1e-12) for record in records] for layer in layers]
    figure = Figure(figsize=(8, 0.18 * len(layers) + 2.5), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(torch.tensor(values).log10(), aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set_yticks(range(len(layers)), layers, fontsize=7)
    axes.set_xticks(range(len(records)), [record["step"] for record in records], rotation=90, fontsize=7)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("layer")
    figure.colorbar(picture, label="log10 of the gradient norm")
    return figure
