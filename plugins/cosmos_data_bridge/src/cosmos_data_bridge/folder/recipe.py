"""The recipe that trains on a prepared folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cosmos_core.recipes import literal, toml_text

__all__ = ["RECIPE", "recipe_text"]

RECIPE = "recipe.toml"


def recipe_text(
    root: Path, media_roots: Sequence[Path], extends: str, resolution: str, window: int | None,
    validation_caps: Mapping[str, int] | None,
) -> str:  # fmt: skip
    """A recipe. root: the dataset. media_roots: folders outside of it that its files lie in. extends: another recipe.

    resolution: of the validation data. window: the shortest window that is trained on. validation_caps: of a
    micro-batch of validation, where the other recipe has none; None without clips to validate on.
    """
    path, roots = toml_text(literal(str(root))), toml_text(literal([str(path) for path in media_roots]))
    table = f'type = "bridge"\npath = {path}\nmedia_roots = {roots}\n'
    table += f"min_window_frames = {window or 1}\n"
    # Without a name of its own its run would go on with one on other clips.
    name = re.sub(r"[^\w.-]+", "_", root.name)
    lines = [
        f"summary = {toml_text(f'{extends} on clips of your own')}",
        f"extends = {toml_text(extends)}",
        f"\n[job]\nname = {toml_text(name)}",
        f"\n[dataloader_train.dataset]\n{table}",
    ]
    if validation_caps is None:
        lines.append("[trainer]\nrun_validation = false\n")
    else:
        val = f'split = "val"\nresolution = "{resolution}"\ncfg_dropout_rate = 0.0'
        val += "\nconditioning_config = { 0 = 1.0 }"
        caps = [f"{name} = {value}" for name, value in validation_caps.items()]
        lines += [
            "[trainer]\nrun_validation = true\n",
            "\n".join(["[dataloader_val]", *caps, "shuffle = false\n"]),
            f"[dataloader_val.dataset]\n{table}{val}\n",
        ]
    return "\n".join(lines)
