"""What network a backbone's folder describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError

__all__ = ["architecture_of"]

HINT = "give the folder or the Hub name of a Qwen3-VL model"


def architecture_of(folder: Path) -> Any:
    """transformers' configuration of a Qwen3-VL. Raises UserError when it is missing, damaged, or another model's."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    file = folder / "config.json"
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(recorded, dict):
            raise _unreadable("is no object", file, None)
        kind = recorded.get("model_type")
        if kind == "qwen3_vl":
            return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except FileNotFoundError:
        raise _unreadable("is missing", file, None) from None
    except json.JSONDecodeError as error:
        raise _unreadable(error.msg, file, error.lineno) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise _unreadable(" ".join(str(error).split()), file, None) from None
    message = f"is of a '{kind}' model" if kind else "names no model_type"
    problem = Problem(message=message, file=str(file), hint="this version trains qwen3_vl models")
    raise UserError("the backbone cannot be trained here", [problem])


def _unreadable(message: str, file: Path, line: int | None) -> UserError:
    problem = Problem(message=message, file=str(file), line=line, hint=HINT)
    return UserError("the backbone's configuration cannot be read", [problem])
