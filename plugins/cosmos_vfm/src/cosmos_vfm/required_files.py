"""Files that a generator needs beside its weights, and the commands that fetch them; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import exists
from pathlib import Path
from shlex import join

from cosmos_core.errors import Problem
from cosmos_vfm.config import VfmConfig

__all__ = ["VAE_FILE", "file_problems", "is_missing_folder"]

VAE_FILE = "Wan2.2_VAE.pth"
VAE_FOLDER = "examples/checkpoints/wan22_vae"
"""Where recipes look for it."""
VIDEO_KEY, TEXT_KEY = "model.tokenizer.vae_path", "model.text_tokenizer.path"


def is_missing_folder(path: str) -> bool:
    """Whether a tokenizer's path names a folder, not a name of the Hub, and is not there."""
    return (path.startswith(("/", ".", "~")) or path.count("/") > 1) and not exists(path)


def file_problems(model: VfmConfig, *, video: str = f"{VIDEO_KEY}=", text: str = f"{TEXT_KEY}=") -> Iterable[Problem]:
    """What is missing. video, text: how the user sets the paths, up to the value."""
    vae = model.tokenizer.vae_path
    if model.tokenizer.type == "wan22" and (vae is None or not exists(vae)):
        file = Path(vae) if vae is not None and Path(vae).name == VAE_FILE else Path(vae or VAE_FOLDER) / VAE_FILE
        command = join(("cosmos", "checkpoints", "fetch", "Wan2.2-VAE", "-o", str(file.parent)))
        setting = "" if str(file) == vae else f", then set {video}{file}"
        yield Problem(
            message="is not set" if vae is None else f"no such file: {vae}",
            key=VIDEO_KEY,
            hint=f"`{command}` downloads it{setting}; or set WAN_VAE_PATH to its path",
        )
    path = model.text_tokenizer.path
    if model.text_tokenizer.type == "hf" and path is not None and is_missing_folder(path):
        hint = (
            f"`{TEXT_KEY}=null` takes the model's own" if text.endswith("=") else f"set {text}to a folder that has it"
        )
        yield Problem(message=f"no such folder: {path}", key=TEXT_KEY, hint=hint)
    if model.text_tokenizer.type == "hf" and path is None and not model.network.text_model:
        hint = f"set {text}DIR, or {text}words for the tokenizer of the demo" if not text.endswith("=") else ""
        yield Problem(message="is not set, and this model size has no tokenizer of its own", key=TEXT_KEY, hint=hint)
