"""A trained or base checkpoint -> a folder for diffusers or for cosmos-framework."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import isdir
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import (
    DcpWeights,
    Entry,
    OverlaidWeights,
    StoredWeights,
    atomic_directory,
    trained_weights,
    write_shards,
)
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan import read_base
from cosmos_vfm.checkpoints.components import copy_components, write_json
from cosmos_vfm.checkpoints.diffusers_config import Shapes, matching_size, network_config_of, transformer_config
from cosmos_vfm.checkpoints.framework import model_section
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import MODEL_SIZES

__all__ = ["ExportRequest", "export_weights"]


@frozen(kw_only=True)
class ExportRequest:
    """checkpoint: folder with ``model/``.

    base: folder of the converted base. It gives the heads that the run did not build, the configuration and the
    components.

    format: 'diffusers', or 'hf' for one folder of ``model.net.<name>`` tensors that cosmos-framework loads. weights:
    'ema' (live weights where there is no average) or 'live'. scale: factor of adapters that were trained together with
    other weights. model: configuration of the training run, if any. dtype: of floating-point tensors; None keeps it.
    """

    checkpoint: Path
    output: Path
    base: Path | None = None
    format: str = "diffusers"
    weights: str = ""
    scale: float | None = None
    model: VfmConfig | None = None
    dtype: torch.dtype | None = None
    verify: bool = False


def export_weights(request: ExportRequest) -> dict[str, Any]:
    """Write the folder atomically, with few tensors in memory. Returns facts to print."""
    trained = trained_weights(request.checkpoint, request.weights, request.scale)
    source, heads = _with_heads(trained, request)
    bare = request.format == "hf"
    entries = {_target_name(name, request): _entry(source, name, request.dtype) for name in source.infos}
    shapes = {name: info.shape for name, info in source.infos.items()}
    config = transformer_config(shapes, _base_config(request.base))
    with atomic_directory(request.output, "nothing was exported") as hidden:
        folder = hidden if bare else hidden / "transformer"
        folder.mkdir(exist_ok=True)
        stem = "model" if bare else "diffusion_pytorch_model"
        written = write_shards(folder, stem, entries, verify=request.verify)
        write_json(folder / "config.json", _bare_config(config, shapes, request, entries) if bare else config)
        model = request.model or VfmConfig()
        components = copy_components(request.base, hidden, shift=model.sampling.shift, given=_tokenizers(model))
    return {
        "exported": str(request.output),
        "weights": _describe_weights(trained) + (f", {heads} of the base's other heads" if heads else ""),
        "shards": written.files,
        "verified": request.verify,
        "components": components,
    }


def _tokenizers(model: VfmConfig) -> dict[str, Path]:
    """Folders that training read its tokenizers from. The original VAE is one file, which no other program loads."""
    video, text = model.tokenizer, model.text_tokenizer
    folders = {}
    if video.type == "wan22" and video.vae_path is not None:
        for place in (Path(video.vae_path, "vae"), Path(video.vae_path)):
            if (place / "config.json").is_file():
                folders["vae"] = place
    if text.type == "hf" and text.path is not None and isdir(text.path):
        folders["text_tokenizer"] = Path(text.path)
    return folders


def _with_heads(trained: StoredWeights, request: ExportRequest) -> tuple[StoredWeights, int]:
    """Adds the tensors of the base that the run did not build (action and sound). Returns their number too."""
    if request.base is None or request.base == request.checkpoint:
        return trained, 0
    layers = network_config_of({name: info.shape for name, info in trained.infos.items()}).layers
    merged = OverlaidWeights(trained, DcpWeights(request.base / "model", "live"), num_layers=layers)
    return merged, len(merged.infos) - len(trained.infos)


def _bare_config(
    config: dict[str, Any], shapes: Shapes, request: ExportRequest, entries: Mapping[str, Entry]
) -> dict[str, Any]:
    """config.json for cosmos-framework, which reads the section `model`. Other readers use the top-level keys."""
    precision = next(entry.dtype for entry in entries.values() if entry.dtype.is_floating_point)
    model_size = matching_size(shapes)
    section = model_section(
        MODEL_SIZES[model_size] if model_size is not None else network_config_of(shapes),
        config,
        model_size=model_size,
        model=request.model,
        precision=str(precision).removeprefix("torch."),
    )
    return {**config, "model_type": "cosmos3_omni", "model": section}


def _target_name(name: str, request: ExportRequest) -> str:
    """Raises UserError for a tensor that no generator has."""
    try:
        diffusers = to_diffusers(name)
    except KeyError:
        problem = Problem(
            message=f"holds {name}, which no generator has",
            file=str(request.checkpoint / "model"),
            hint="the checkpoint of another model family is exported from its run directory, or with --task",
        )
        raise UserError("these are not the weights of a generator; nothing was exported", [problem]) from None
    return f"model.net.{name}" if request.format == "hf" else diffusers


def _entry(source: StoredWeights, name: str, dtype: torch.dtype | None) -> Entry:
    stored = source.infos[name].dtype
    return Entry(source, name, dtype if dtype is not None and stored.is_floating_point else stored)


def _describe_weights(source: StoredWeights) -> str:
    if isinstance(source, OverlaidWeights) and isinstance(source.over, DcpWeights):
        return f"{_describe_weights(source.over)}, {len(source.infos) - len(source.over.infos)} of the base"
    if isinstance(source, DcpWeights):
        return f"{source.averaged} averaged, {len(source.infos) - source.averaged} live tensors"
    return f"{len(source.infos)} tensors of the base with the adapters merged"


def _base_config(base: Path | None) -> dict[str, Any]:
    """The configuration that the conversion stored, {} if there is none."""
    config: dict[str, Any] = read_base(base).get("config", {}) if base is not None else {}
    return config
