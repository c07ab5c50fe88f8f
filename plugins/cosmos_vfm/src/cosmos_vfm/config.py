"""Options of the generator family and of its callbacks."""

from __future__ import annotations

from os.path import isdir
from typing import Any, ClassVar

import attrs
from attrs import frozen

from cosmos_core.config import AdaptedModelConfig, RunConfig, option, section
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig

__all__ = [
    "DEFAULT_SHIFT",
    "CompileTokenizer",
    "DrawSamples",
    "Flow",
    "Sampling",
    "TextTokenizer",
    "VfmConfig",
    "VideoTokenizer",
    "compiles_encoder",
]

DEFAULT_SHIFT = {"256": 3.0, "480": 5.0, "720": 10.0}


@frozen(kw_only=True)
class VideoTokenizer:
    """Frozen video tokenizer: pixels to latents and back."""

    type: str = option(
        "wan22", "Video tokenizer: the Wan 2.2 VAE, or a weight-free DCT.", choices=("wan22", "block_dct")
    )
    vae_path: str | None = option(
        None,
        "Wan2.2_VAE.pth, or a folder with a diffusers AutoencoderKLWan.",
        on_resume="list",
    )


@frozen(kw_only=True)
class TextTokenizer:
    """Captions to token ids."""

    type: str = option("hf", "'hf': the model's own files; 'words': built in code.", choices=("hf", "words"))
    path: str | None = option(
        None,
        "Folder or hub name of tokenizer files; absent: that of the model size.",
        on_resume="list",
    )


@frozen(kw_only=True)
class Flow:
    """Flow-matching objective (docs/models/generator.md, Objective)."""

    shift: dict[str, float] = option(
        DEFAULT_SHIFT,
        "Time shift of sigma by resolution; one that is not given has its default, 768 the shift of 720.",
        above=0,
        keys=(*DEFAULT_SHIFT, "768"),
    )
    video_distribution: str = option("waver", "Distribution of sigma for videos.", choices=("waver", "logitnormal"))
    image_distribution: str = option(
        "logitnormal", "Distribution of sigma for images.", choices=("waver", "logitnormal")
    )
    loss_scale: float = option(1.0, "Factor on the loss.", low=0)
    image_loss_scale: float | None = option(None, "Factor on the loss of images; absent: loss_scale.", low=0)
    normalize_loss_by_active: bool = option(False, "Leave condition frames out of each item's denominator.")


@frozen(kw_only=True)
class Sampling:
    """Defaults of generation (docs/models/generator.md, Sampling)."""

    steps: int = option(35, "Solver steps.", low=1)
    guidance: float = option(6.0, "Classifier-free guidance; 1 skips the unconditional pass.", low=0)
    shift: float = option(10.0, "Shift of the noise schedule.", above=0)


@frozen(kw_only=True)
class Validation:
    """What validation measures beside its loss (docs/models/generator.md, Validation)."""

    noise_levels: tuple[float, ...] = option(
        (0.2, 0.5, 0.8), "Sigmas whose loss is reported too; []: none. Each costs a forward pass.", above=0, high=1
    )
    caption_effect: bool = option(True, "Report how much the loss rises when clips swap captions; a forward pass.")


@frozen(kw_only=True)
class VfmConfig(AdaptedModelConfig):
    """``[model]`` of the generator."""

    usual_lora_targets: ClassVar[str] = "q_proj_moe_gen,k_proj_moe_gen,v_proj_moe_gen,o_proj_moe_gen"

    tier: str = option("nano", "Model size.", choices=("tiny", "tiny_even", "tiny_edge", "edge", "nano", "super"))
    num_layers: int | None = option(
        None, "Only the first layers of that size, for benchmarks and debugging; absent: all.", low=1
    )
    max_num_tokens_after_packing: int = option(
        -1, "Maximum tokens of a micro-batch; -1: only the loader's limit.", low=1, also=(-1,), on_resume="list"
    )
    joint_attn_implementation: str = option(
        "two_way", "Attention backend.", choices=("two_way", "three_way", "flex"), on_resume="list"
    )
    lora_target_modules: str = option(
        "q_proj_moe_gen,k_proj_moe_gen,v_proj_moe_gen,o_proj_moe_gen",
        "Adapted linear layers: names or dotted endings, comma-separated.",
        unless=("lora_enabled", (False,)),
    )
    tokenizer: VideoTokenizer = section(VideoTokenizer, "Video tokenizer.")
    text_tokenizer: TextTokenizer = section(TextTokenizer, "Text tokenizer.")
    flow: Flow = section(Flow, "Objective.", on_resume="refuse_training")
    sampling: Sampling = section(Sampling, "Generation.", on_resume="list")
    validation: Validation = section(Validation, "Validation.", on_resume="list")

    @num_layers.validator
    def _no_more_than_there_are(self, attribute: Any, value: int | None) -> None:
        size = MODEL_SIZES.get(self.tier)
        if value is not None and size is not None and value > size.layers:
            raise ValueError(f"is {value}, but model size '{self.tier}' has {size.layers} layers")

    @property
    def network(self) -> NetworkConfig:
        """The model size, cut to `num_layers`."""
        size = MODEL_SIZES[self.tier]
        return size if self.num_layers is None else attrs.evolve(size, layers=self.num_layers)

    @property
    def hub_names(self) -> tuple[str, ...]:
        """The text tokenizer's, where it is no folder."""
        name = self.text_tokenizer.path or MODEL_SIZES[self.tier].text_model
        return (name,) if self.text_tokenizer.type == "hf" and name and not isdir(name) else ()

    @property
    def uses_latent_cache(self) -> bool:
        """It holds what the video tokenizer returned."""
        return True

    @property
    def published_base(self) -> str:
        """The released generator of this size."""
        return "" if self.tier.startswith("tiny") else f"Cosmos3-{self.tier.capitalize()}"


@frozen(kw_only=True)
class DrawSamples:
    """Samples drawn during a run, from prompts or from validation captions."""

    every_n: int = option(0, "Draw every this many steps; 0: at the start and the end only.", unit="steps", low=0)
    count: int = option(8, "How many validation items.", low=1)
    prompts: tuple[str, ...] = option((), "Draw these instead of validation items.")
    prompts_file: str | None = option(None, "More of them: a file that `cosmos generate --prompts` reads.")
    steps: int | None = option(None, "Solver steps; absent: model.sampling.steps.", low=1)
    guidance: float | None = option(None, "Guidance; absent: model.sampling.guidance.", low=0)
    shift: float | None = option(None, "Schedule shift; absent: model.sampling.shift.", above=0)
    seed: int = option(0, "Seed of the initial noise.", low=0)


@frozen(kw_only=True)
class CompileTokenizer:
    """torch.compile of the encoder of the video tokenizer."""

    enabled: bool = option(False, "Compile the encoder, on a CUDA device.")
    compile_after_iterations: int = option(
        3, "Compile after this many micro-batches, or parts of them.", low=0, unless=("enabled", (False,))
    )
    warmup_resolutions: tuple[str, ...] | None = option(
        None, "No effect, for old recipes: every size compiles on use.", choices=("256", "480", "704", "720", "768")
    )


def compiles_encoder(config: RunConfig) -> bool:
    """Whether the callback `compile_tokenizer` is there and does so, where the device is one to compile for."""
    callback: CompileTokenizer | None = config.trainer.callbacks.get("compile_tokenizer")
    return callback is not None and callback.enabled
