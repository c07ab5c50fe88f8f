"""The network configuration in a backbone's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError

__all__ = ["architecture_of", "cut"]

HINT = "give the folder or the Hub name of a Qwen3-VL model"


def architecture_of(folder: Path) -> Any:
    """Transformers' configuration of a Qwen3-VL. Raises UserError when it is missing, damaged, or of another model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise _unreadable("is not an object", file, None)
        model_type = content.get("model_type")
        if model_type == "qwen3_vl":
            return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except FileNotFoundError:
        raise _unreadable("is missing", file, None) from None
    except json.JSONDecodeError as error:
        raise _unreadable(error.msg, file, error.lineno) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise _unreadable(" ".join(str(error).split()), file, None) from None
    message = f"is of a '{model_type}' model" if model_type else "names no model_type"
    problem = Problem(message=message, file=str(file), hint="this version trains qwen3_vl models")
    raise UserError("the backbone cannot be trained here", [problem])


def cut(architecture: Any, num_layers: int) -> None:
    """Keep only the first layers of the language model. Raises UserError when it has fewer."""
    text = architecture.text_config
    if num_layers > text.num_hidden_layers:
        message = f"is {num_layers}, but the backbone's language model has {text.num_hidden_layers} layers"
        problem = Problem(message=message, key="model.num_layers", hint="set fewer, or leave it out")
        raise UserError("the backbone cannot be cut; nothing was started", [problem])
    text.num_hidden_layers = num_layers


def _unreadable(message: str, file: Path, line: int | None) -> UserError:
    problem = Problem(message=message, file=str(file), line=line, hint=HINT)
    return UserError("the backbone's configuration cannot be read", [problem])
