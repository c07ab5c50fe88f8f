"""A base or a published generator on disk: its settings for a `[model]` section, its weights for a network."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from torch import nn

from cosmos_core.checkpoint import stored_tensors
from cosmos_core.distributed import load_full_tensor
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import by_layer
from cosmos_vfm.checkpoints.components import FOLDER
from cosmos_vfm.checkpoints.diffusers_config import Shapes, matching_size, to_diffusers_config
from cosmos_vfm.checkpoints.published import open_published
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.required_files import is_missing_folder
from cosmos_vfm.sizes import MODEL_SIZES

__all__ = ["load_published", "settings_of"]

PREFIX = "net."


def settings_of(config: VfmConfig, folder: Path) -> VfmConfig:
    """The section with the model size of the folder, without adapters.

    The folder's own video and text tokenizer are taken where the section names none that is there. Raises UserError
    when the weights are of no known size.
    """
    shapes, components = _shapes(folder)
    size = matching_size(shapes)
    if size is None:
        known = ", ".join(MODEL_SIZES)
        problem = Problem(message=f"its tensors are of none of the sizes {known}", file=str(folder))
        raise UserError("the generator's size is not known", [problem])
    same = to_diffusers_config(MODEL_SIZES[size]) == to_diffusers_config(MODEL_SIZES[config.tier])
    video, text = config.tokenizer, config.text_tokenizer
    here = video.vae_path is not None and Path(video.vae_path).exists()
    if video.type == "wan22" and not here and (components / "vae").is_dir():
        video = evolve(video, vae_path=str(components / "vae"))
    elsewhere = text.path is not None and not is_missing_folder(text.path)
    if text.type == "hf" and not elsewhere and (components / "text_tokenizer").is_dir():
        text = evolve(text, path=str(components / "text_tokenizer"))
    tier = config.tier if same else size
    return evolve(config, tier=tier, tokenizer=video, text_tokenizer=text, lora_enabled=False)


def _shapes(folder: Path) -> tuple[Shapes, Path]:
    """Shapes by the network's names, and the folder with the components."""
    if (folder / "model/.metadata").is_file():
        stored = stored_tensors(folder / "model")
        shapes = {name.removeprefix(PREFIX): shape for name, (shape, _) in stored.items() if name.startswith(PREFIX)}
        return shapes, folder / FOLDER
    published = open_published(folder)
    return published.shapes, published.root


def load_published(model: nn.Module, folder: Path) -> frozenset[str]:
    """Load a published folder tensor by tensor; returns the names. Heads that the network lacks are left out.

    Raises UserError when tensors are missing or of another shape.
    """
    published = open_published(folder)
    parameters, filled, reshaped = dict(model.named_parameters()), set[str](), list[str]()
    for file in published.files:
        for stored, value in published.tensors(file):
            name = stored.removeprefix(PREFIX)
            if name in parameters and parameters[name].shape == value.shape:
                load_full_tensor(parameters[name], value)
                filled.add(name)
            elif name in parameters:
                reshaped.append(name)
    missing = [name for name in parameters if name not in filled and name not in reshaped]
    problems = [
        Problem(message=f"{fault}: {by_layer(names)}", file=str(published.folder))
        for fault, names in (("tensors are missing", missing), ("tensors have another shape", reshaped))
        if names
    ]
    if problems:
        raise UserError("the published weights do not fit the model", problems)
    return frozenset(filled)
