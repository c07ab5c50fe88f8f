"""What a run notes of the base that its frozen weights are from, and whether its checkpoints leave them to it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve
from torch import nn

from cosmos_core.checkpoint.load import Loaded
from cosmos_core.checkpoint.weights import SafetensorsWeights
from cosmos_core.config.model import AdaptedModelConfig
from cosmos_core.distributed.reduce import gather_objects
from cosmos_core.errors import Problem, UserError
from cosmos_core.optim.lora import trains_only_lora
from cosmos_core.plan.frozen_base import DTYPES, FrozenBase, fingerprint
from cosmos_core.plan.plan import WeightSource

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["base_of_start", "base_on_resume"]


def base_of_start(trainer: Trainer, source: WeightSource, loaded: Loaded) -> FrozenBase | None:
    """The base of a run that starts: a checkpoint's, a converted base, the family's own files, or fresh weights.

    loaded: what `source` filled. Without frozen weights of a base there is none. Weights that a checkpoint to start
    from left to its own base stay with that, so that no base needs another one.
    """
    frozen = _frozen(trainer.model)
    if not frozen:
        return None
    below = FrozenBase.read(source.path) if source.path is not None else None
    if below is not None and below.lacking:
        base, names = below, below.lacking.keys() & loaded.tensors
    else:
        base, names = _first_base(trainer, source), set(frozen if source.path is None else loaded.tensors)
    if base.folder and not base.dcp:
        names &= SafetensorsWeights(Path(base.folder)).infos.keys()
    return _noted(trainer, base, {name: dtype for name, dtype in frozen.items() if name in names})


def base_on_resume(trainer: Trainer, checkpoint: Path, base: FrozenBase | None) -> FrozenBase | None:
    """The base of a run that goes on, for its next checkpoints. base: of `checkpoint`, checked if it is needed.

    Raises UserError when frozen weights are to be left to a base that is gone, has changed, or was not noted.
    """
    frozen = _frozen(trainer.model)
    if base is None:
        if frozen and trainer.config.checkpoint.include_frozen is False:
            message = f"is false, but {checkpoint} names no base that its frozen weights are from"
            problem = Problem(message=message, key="checkpoint.include_frozen", hint="leave it out")
            raise UserError("frozen weights cannot be left to a base; nothing was started", [problem])
        return None
    known = frozen if base.tensors is None else {name: frozen[name] for name in _in_base(base) if name in frozen}
    noted = _noted(trainer, base, known)
    if noted is not None and noted.left_out and not base.left_out:
        noted.check(checkpoint, trainer.rng.seed)
    return noted


def _in_base(base: FrozenBase) -> Collection[str]:
    return evolve(base, left_out=True).lacking


def _frozen(model: nn.Module) -> dict[str, str]:
    """Dtype of each parameter that does not train. Buffers may change while a model trains; they are saved."""
    types = {name: str(value.dtype).removeprefix("torch.") for name, value in model.named_parameters()}
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    return {name: dtype for name, dtype in types.items() if name not in trained and dtype in DTYPES}


def _noted(trainer: Trainer, base: FrozenBase, in_base: dict[str, str]) -> FrozenBase | None:
    """The record for the next checkpoints. in_base: dtype of each frozen tensor that the base has.

    Fresh weights are in no folder, so they are saved too; adapters on them need the record for their factor.
    """
    if not in_base or (not base.folder and base.rank is None):
        return None
    adapters_alone = trains_only_lora(trainer.model)
    left_out = bool(base.folder) and trainer.config.checkpoint.leaves_frozen(adapters_alone=adapters_alone)
    return evolve(base, tensors={name: in_base.get(name) for name in trainer.model.state_dict()}, left_out=left_out)


def _first_base(trainer: Trainer, source: WeightSource) -> FrozenBase:
    model = trainer.config.model
    adapters = model if isinstance(model, AdaptedModelConfig) and trains_only_lora(trainer.model) else None
    folder = source.path / "model" if source.path is not None else trainer.family.weights_folder
    digest = gather_objects(fingerprint(folder) if folder is not None and trainer.is_main else "", trainer.mesh)[0]
    return FrozenBase(
        folder=str(folder.resolve()) if folder is not None else "",
        digest=digest,
        dcp=source.path is not None,
        rank=adapters.lora_rank if adapters is not None else None,
        alpha=adapters.lora_alpha if adapters is not None else None,
        seed=trainer.rng.seed if folder is None else None,
        num_layers=trainer.family.num_layers,
    )
