"""Compares a picture of `cosmos generate` with diffusers' for the same weights, noise and settings.

``python -m tests.acceptance.against_diffusers PUBLISHED GENERATED`` prints one JSON object. GENERATED is the folder
that `cosmos generate --frames 1 --no-facts --negative ""` wrote.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

__all__ = ["main"]

LEAST_DECIBELS = {"float32": 50.0, "bfloat16": 25.0}
"""Pictures of equal programs differ by rounding alone: hardly in float32, visibly but little in bfloat16."""


@click.command()
@click.argument("published", type=click.Path(path_type=Path, exists=True))
@click.argument("generated", type=click.Path(path_type=Path, exists=True))
@click.option("--precision", type=click.Choice(list(LEAST_DECIBELS)), default="float32", show_default=True)
def main(published: Path, generated: Path, precision: str) -> None:
    """Print the peak signal-to-noise ratio; exit code 1 when it is too low."""
    (line,) = (generated / "results.jsonl").read_text(encoding="utf-8").splitlines()
    result = json.loads(line)
    ours = np.asarray(Image.open(generated / result["file"]).convert("RGB"), dtype=np.float64)
    theirs = _picture(published, result, getattr(torch, precision))
    error = float(np.mean((ours - theirs) ** 2))
    decibels = 10 * math.log10(255**2 / error) if error else math.inf
    enough = decibels >= LEAST_DECIBELS[precision]
    shown = "equal" if math.isinf(decibels) else round(decibels, 2)
    click.echo(json.dumps({"psnr": shown, "at least": LEAST_DECIBELS[precision], "ok": enough}))
    raise SystemExit(0 if enough else 1)


def _picture(published: Path, result: dict[str, object], dtype: torch.dtype) -> NDArray[np.float64]:
    """float64 [H, W, 3] from 0 to 255."""
    from diffusers import Cosmos3OmniPipeline, UniPCMultistepScheduler

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = Cosmos3OmniPipeline.from_pretrained(
        published,
        torch_dtype=dtype,
        enable_safety_checker=False,
        default_use_system_prompt=False,
        use_native_flow_schedule=True,
    ).to(device)
    # The published scheduler_config.json may have another schedule than the weights were trained with.
    pipeline.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=float(str(result["shift"]))
    )
    width, height = int(str(result["width"])), int(str(result["height"]))
    noise = np.random.RandomState(int(str(result["seed"]))).standard_normal((1, 48, 1, height // 16, width // 16))
    video = pipeline(
        prompt=str(result["prompt"]),
        negative_prompt="",
        width=width,
        height=height,
        num_frames=1,
        fps=float(str(result["fps"])),
        num_inference_steps=int(str(result["steps"])),
        guidance_scale=float(str(result["guidance"])),
        latents=torch.from_numpy(noise).float().to(device),
        add_resolution_template=False,
        add_duration_template=False,
        output_type="np",
    ).video
    return np.asarray(np.round(np.clip(np.asarray(video)[0], 0, 1) * 255), dtype=np.float64)


if __name__ == "__main__":
    main()
