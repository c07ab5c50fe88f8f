"""The files of a Wan 2.2 VAE: where they are, the configuration of a diffusers folder, and tensors by name."""

from __future__ import annotations

from os.path import exists
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from cosmos_core.checkpoint import not_plain, open_safetensors, read_weight_map
from cosmos_core.errors import Problem, UserError
from cosmos_core.strict_json import read_object

__all__ = ["UNUSABLE", "find_vae", "read_config", "stored_weights", "vae_error"]

UNUSABLE = "the weights of the video tokenizer cannot be loaded"
HINT = "set it, or WAN_VAE_PATH, to Wan2.2_VAE.pth or a folder with a diffusers AutoencoderKLWan"
STEM = "diffusion_pytorch_model"
WIDTHS = ("base_dim", "decoder_base_dim")
LATENTS = ("latents_mean", "latents_std")
MAX_WIDTH = 4096
"""Channels of a VAE's first layer; the released one has 160 and 256."""


def find_vae(path: str | None) -> Path:
    """The weights file at `path`, or the folder with ``config.json`` at or in `path`. Raises UserError."""
    if path is None:
        raise vae_error("", "is not set")
    location = Path(path)
    if not exists(location):
        raise vae_error(path, "no such file or folder")
    if location.is_dir() and not (location / "config.json").is_file() and (location / "vae/config.json").is_file():
        return location / "vae"
    if location.is_dir() and not (location / "config.json").is_file():
        raise vae_error(path, "holds neither config.json nor vae/config.json")
    return location


def read_config(folder: Path, released: dict[str, Any]) -> dict[str, Any]:
    """The configuration in a folder of diffusers; absent values are those of the released VAE.

    Raises UserError unless it differs from the released one in widths and statistics alone.
    """
    file = folder / "config.json"
    stored = read_object(file, UNUSABLE)
    config = {name: stored.get(name, value) for name, value in released.items()}
    problems = [
        Problem(message=fault, key=name, file=str(file), hint="take the VAE that was published with the generator")
        for name, value in config.items()
        if (fault := _fault(name, value, released[name]))
    ]
    if problems:
        raise UserError(UNUSABLE, problems)
    return config


def _fault(name: str, value: Any, released: Any) -> str:
    """Why a value cannot be used; "" when it can."""
    if name in WIDTHS:
        usable = type(value) is int and 0 < value <= MAX_WIDTH and value % 2 == 0
        return "" if usable else f"is {value!r:.80}, not an even number up to {MAX_WIDTH}"
    if name in LATENTS:
        numbers = isinstance(value, list) and all(
            type(item) in (int, float) and abs(item) < MAX_WIDTH for item in value
        )
        if not numbers or len(value) != len(released) or (name == LATENTS[1] and not all(item > 0 for item in value)):
            return f"is {value!r:.80}, not {len(released)} {'positive ' * (name == LATENTS[1])}numbers"
        return ""
    return "" if value == released else f"is {value!r:.80}; this version reads VAEs where it is {released}"


def stored_weights(location: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder or a file by their stored names. Raises UserError.

    safetensors are taken where they lie beside a pickle. Of a pickle only tensors are read.
    """
    if location.is_dir():
        index = location / f"{STEM}.safetensors.index.json"
        if index.is_file():
            names = sorted(set(read_weight_map(index).values()))
            return {key: value for name in names for key, value in _safetensors(location / name).items()}
        location /= f"{STEM}.bin"
    beside = location.with_suffix(".safetensors")
    if beside.exists():
        return _safetensors(beside)
    if not location.exists():
        raise vae_error(str(location.parent), f"holds no {beside.name}")
    try:
        weights = torch.load(location, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, EOFError, OSError, UnpicklingError) as error:
        raise vae_error(str(location), f"is not a file of tensors: it {not_plain(error)}") from None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise vae_error(str(location), "is not a dictionary of tensors")
    return weights


def _safetensors(file: Path) -> dict[str, torch.Tensor]:
    with open_safetensors(file) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def vae_error(path: str, message: str) -> UserError:
    """For what is wrong with the VAE at a path."""
    problem = Problem(message=f"{path}: {message}" if path else message, key="model.tokenizer.vae_path", hint=HINT)
    return UserError(UNUSABLE, [problem])
