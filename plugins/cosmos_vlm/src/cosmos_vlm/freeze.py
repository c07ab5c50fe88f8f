"""Freezes the parameters that `[model.freeze]` names (docs/models/reasoner.md, Freezing)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import nearest_part
from cosmos_vlm.config import Freeze
from cosmos_vlm.network import ReasonerNetwork

__all__ = ["freeze"]

_PARTS = {
    "freeze_vision_encoder": r"^model\.visual\.(patch_embed|blocks|pos_embed)\.",
    "freeze_mm_projector": r"^model\.visual\.(merger|deepstack_merger_list)\.",
    "freeze_llm": r"^(model\.language_model|lm_head)\.",
}
_EMBEDDING, _HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"

_NOT_A_NAME = re.compile(r"[^\w.]|\.[*+?]")
"""What a regular expression has besides words and dots."""

Names = tuple[str, ...]


def freeze(model: ReasonerNetwork, config: Freeze) -> None:
    """Switch gradients off, in place.

    Raises UserError for a pattern that matches nothing: a misspelt one would silently train more, or less.
    """
    parameters = list(_named(model))
    _refuse_unmatched(config, [names for names, _ in parameters])
    frozen = [*(pattern for name, pattern in _PARTS.items() if getattr(config, name)), *config.frozen_params]
    for names, parameter in parameters:
        trainable = not config.trainable_params or _matches(config.trainable_params, names)
        if not trainable or _matches(frozen, names):
            parameter.requires_grad_(False)


def _named(model: ReasonerNetwork) -> Iterator[tuple[Names, nn.Parameter]]:
    """Every parameter with its names; a tied embedding goes by the head's name too."""
    for name, parameter in model.named_parameters():
        yield (name, _HEAD) if model.tied and name == _EMBEDDING else (name,), parameter


def _matches(patterns: Iterable[str], names: Names) -> bool:
    return any(re.search(pattern, name) for pattern in patterns for name in names)


def _refuse_unmatched(config: Freeze, names: list[Names]) -> None:
    problems = [
        Problem(
            message=f"'{pattern}' matches no parameter's name",
            key=f"model.freeze.{key}",
            hint=nearest_part(_NOT_A_NAME.sub("", pattern), [aliases[0] for aliases in names])
            or "names look like " + ", ".join(aliases[0] for aliases in (names[0], names[-1])),
        )
        for key in ("frozen_params", "trainable_params")
        for pattern in getattr(config, key)
        if not any(_matches([pattern], aliases) for aliases in names)
    ]
    if problems:
        raise UserError("[model.freeze] does not fit the model; nothing was started", problems)
