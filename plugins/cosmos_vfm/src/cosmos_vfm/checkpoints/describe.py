"""How an exported generator is used: defaults of generation, and code for diffusers."""

from __future__ import annotations

import re
from typing import Any

from cosmos_core.config import RunConfig
from cosmos_core.errors import UserError
from cosmos_core.plan import read_base
from cosmos_core.plugin import Conversion, ExportUse
from cosmos_vfm.checkpoints.components import PIPELINE
from cosmos_vfm.checkpoints.load import settings_of
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.generate.canvas import RESOLUTIONS, parse_size
from cosmos_vfm.generate.recorded import generation_of

__all__ = ["describe"]

PIPELINE_CODE = """
import torch
from diffusers import Cosmos3OmniPipeline, UniPCMultistepScheduler

device = "cuda" if torch.cuda.is_available() else "cpu"
pipeline = Cosmos3OmniPipeline.from_pretrained(
    ".",
    torch_dtype=torch.{dtype},
    enable_safety_checker=False,
    default_use_system_prompt=False,
    use_native_flow_schedule=True,
).to(device)
# The schedule that the weights were trained for, whatever scheduler_config.json says.
pipeline.scheduler = UniPCMultistepScheduler(
    prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift={shift}
)
frames = pipeline(
    prompt="a robot arm puts a cup on a table",
    width={width},
    height={height},
    num_frames={frames},
    fps={fps},
    num_inference_steps={steps},
    guidance_scale={guidance},
    generator=torch.Generator().manual_seed(0),
).video
# Browsers play it; diffusers.utils.export_to_video writes mp4 where imageio is installed.
frames[0].save("video.webp", save_all=True, append_images=frames[1:], duration=round(1000 / {fps}))
"""
TRANSFORMER_CODE = """
import torch
from diffusers import Cosmos3OmniTransformer

# The export has no video tokenizer, so this is the network alone.
transformer = Cosmos3OmniTransformer.from_pretrained(".", subfolder="transformer", torch_dtype=torch.{dtype})
print(f"{{sum(weight.numel() for weight in transformer.parameters()):,}} weights")
"""
ADAPTER_CODE = """
import torch
from diffusers import Cosmos3OmniPipeline

base = "{base}"
pipeline = Cosmos3OmniPipeline.from_pretrained(base, torch_dtype=torch.bfloat16, enable_safety_checker=False)
pipeline.transformer.load_lora_adapter(".", weight_name="pytorch_lora_weights.safetensors")
"""


def describe(request: Conversion, config: RunConfig | None) -> ExportUse:
    """The use of a written export."""
    origin = str(read_base(request.base).get("origin", "")) if request.base is not None else ""
    repository = re.fullmatch(r"([\w.-]+/[\w.-]+)@\w+", origin)
    base_model = repository[1] if repository else ""
    generation = generation_of(_model(request, config), config)
    return ExportUse(
        generation=generation,
        library="diffusers" if request.options.get("format") != "hf" else "",
        pipeline="text-to-video",
        base_model=base_model,
        code=_code(request, config, generation, base_model or origin),
    )


def _model(request: Conversion, config: RunConfig | None) -> VfmConfig:
    """Of the run, else of the weights' size; the default size for weights of no released one."""
    if config is not None and isinstance(config.model, VfmConfig):
        return config.model
    try:
        return settings_of(VfmConfig(), request.source)
    except UserError:
        return VfmConfig()


def _code(request: Conversion, config: RunConfig | None, generation: dict[str, Any], base: str) -> str:
    if request.options.get("adapter"):
        return ADAPTER_CODE.format(base=base or "BASE")
    if request.options.get("format") == "hf":
        return ""
    dtype = request.options.get("dtype") or (config.model.precision if config is not None else "bfloat16")
    if not (request.output / PIPELINE).is_file():
        return TRANSFORMER_CODE.format(dtype=dtype)
    size = str(generation.get("size"))
    width, height = parse_size(size, "1,1" if size == "64" else "16,9") if size in RESOLUTIONS else (64, 64)
    return PIPELINE_CODE.format(
        dtype=dtype,
        width=width,
        height=height,
        frames=generation.get("frames", 17 if width == 64 else 93),
        fps=float(generation.get("fps", 24.0)),
        **{name: generation[name] for name in ("steps", "guidance", "shift")},
    )
