"""The network configuration in a backbone's folder."""

from __future__ import annotations

from os.path import exists
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError
from cosmos_core.strict_json import read_object
from cosmos_vlm.architecture_faults import faults

__all__ = ["architecture_of", "cut"]

HINT = "give the folder or the Hub name of a Qwen3-VL model"
UNREADABLE = "the backbone's configuration cannot be read"


def architecture_of(folder: Path) -> Any:
    """Transformers' configuration of a Qwen3-VL. Raises UserError when it is missing, damaged, or of another model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    file = folder / "config.json"
    if not exists(file):
        raise _unreadable("is missing", file)
    try:
        content = read_object(file, UNREADABLE, HINT)
        model_type = content.get("model_type")
        if model_type == "qwen3_vl":
            return _checked(AutoConfig.from_pretrained(folder, trust_remote_code=False), file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise _unreadable(" ".join(str(error).split()), file) from None
    message = f"is of a '{model_type}' model" if model_type else "names no model_type"
    problem = Problem(message=message, file=str(file), hint="this version trains qwen3_vl models")
    raise UserError("the backbone cannot be trained here", [problem])


def _checked(architecture: Any, file: Path) -> Any:
    problems = [Problem(message=fault, file=str(file), hint=HINT) for fault in faults(architecture)]
    if problems:
        raise UserError("no network can be built from the backbone's configuration; nothing was started", problems)
    return architecture


def cut(architecture: Any, num_layers: int) -> None:
    """Keep only the first layers of the language model. Raises UserError when it has fewer."""
    text = architecture.text_config
    if num_layers > text.num_hidden_layers:
        message = f"is {num_layers}, but the backbone's language model has {text.num_hidden_layers} layers"
        problem = Problem(message=message, key="model.num_layers", hint="set fewer, or leave it out")
        raise UserError("the backbone cannot be cut; nothing was started", [problem])
    text.num_hidden_layers = num_layers


def _unreadable(message: str, file: Path) -> UserError:
    problem = Problem(message=message, file=str(file), hint=HINT)
    return UserError(UNREADABLE, [problem])
