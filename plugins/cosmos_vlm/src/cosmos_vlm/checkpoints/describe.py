"""How an exported reasoner is used: defaults of answers, and code for transformers."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from cosmos_core.config import RunConfig
from cosmos_core.config.dump import to_plain
from cosmos_core.plugin import Conversion, ExportUse
from cosmos_vlm.catalog import is_hub_name, pinned
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.processor_files import pixel_limits
from cosmos_vlm.weights import config_folder

__all__ = ["describe"]

MAX_ANSWER_TOKENS = 1024
"""Tokens; what `cosmos chat` takes where nothing is asked for."""

LOAD = """
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
{extra}
model = {model}
model = model.to("cuda" if torch.cuda.is_available() else "cpu")
"""
ASK = """
processor = AutoProcessor.from_pretrained("{processor}")
picture = {{"type": "image", "image": Image.open("picture.png")}}
question = {{"type": "text", "text": "What is in the picture?"}}
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": [picture, question]}}],
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
).to(model.device)
answer = model.generate(**inputs, max_new_tokens={most}, do_sample=False)
print(processor.batch_decode(answer[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
"""


def describe(request: Conversion, config: RunConfig | None) -> ExportUse:
    """The use of a written export. config: of the run, which every export of a reasoner has."""
    if config is None or not isinstance(config.model, VlmConfig):
        return ExportUse(library="transformers", pipeline="image-text-to-text")
    backbone = config.model.backbone
    weights = backbone.safetensors_path or backbone.model_name
    adapter = bool(request.options.get("adapter"))
    generation = _generation(config, config.model)
    load = "Qwen3VLForConditionalGeneration.from_pretrained({folder!r}, dtype='auto')"
    if adapter:
        extra, model = "from peft import PeftModel\n", f"PeftModel.from_pretrained({load.format(folder=weights)}, '.')"
    else:
        extra, model = "", load.format(folder=".")
    code = LOAD.format(extra=extra, model=model) + ASK.format(
        processor=backbone.model_name if adapter else ".", most=generation["max_new_tokens"]
    )
    return ExportUse(
        generation=generation,
        library="transformers",
        pipeline="image-text-to-text",
        base_model=pinned(weights)[0] if is_hub_name(weights) else "",
        code=code,
    )


def _generation(config: RunConfig, model: VlmConfig) -> dict[str, Any]:
    """Defaults by name: greedy answers, pixels as in training, and how the training data sampled videos."""
    limits = asdict(pixel_limits(model, config_folder(model.backbone)))
    defaults: dict[str, Any] = {
        "max_new_tokens": MAX_ANSWER_TOKENS,
        "do_sample": False,
        "image_pixels": list(limits["image"]),
        "video_pixels": list(limits["video"]),
    }
    data = to_plain(config)["dataloader_train"]["dataset"]
    named = {"video_fps": "target_fps", "max_frames": "max_frames"}
    return {**defaults, **{name: data[key] for name, key in named.items() if key in data}}
