"""What `tests.acceptance.real` runs with: published weights, or a small random twin of them."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

__all__ = ["STEPS", "Settings", "published", "twin"]

STEPS = 20
SHORT = (
    f"trainer.max_iter={STEPS}",
    f"scheduler.cycle_lengths=[{STEPS}]",
    "scheduler.warm_up_steps=[2]",
    f"checkpoint.save_iter={STEPS}",
)
TINY_DATA = ("dataloader_train.max_samples_per_batch=2", "trainer.run_validation=false")


@frozen(kw_only=True)
class Settings:
    """Names or folders of weights, recipes, and options of commands.

    clips, videos: of `cosmos data prepare`. clip, picture: of `cosmos generate`, for a clip and for what is compared
    with diffusers.
    """

    generator: str
    reasoner: str
    generator_recipe: str
    reasoner_recipe: str
    clips: tuple[str, ...]
    videos: tuple[str, ...]
    clip: tuple[str, ...]
    picture: tuple[str, ...]
    precision: str = "bfloat16"
    prompt: str = "A red square moves up over a grey background."
    is_twin: bool = False

    def of_published(self, weights: str) -> tuple[str, ...]:
        """Options of `cosmos generate` for a published folder: settings of the recipe, the folder's own tokenizers."""
        own = ("--vae", f"{weights}/vae", "--text-tokenizer", f"{weights}/text_tokenizer")
        return ("--recipe", self.generator_recipe, *own)

    def generator_overrides(self, weights: str) -> tuple[str, ...]:
        """Of the training run. weights: the published folder."""
        vae = f"model.tokenizer.vae_path={weights}/vae"
        text = f"model.text_tokenizer.path={weights}/text_tokenizer"
        if not self.is_twin:
            return (*SHORT, vae, text)
        own = ("model.init=pretrained", 'checkpoint.keys_to_skip_loading=["net_ema."]')
        parts = ("model.tokenizer.type=wan22", "model.text_tokenizer.type=hf", vae, text)
        return (*SHORT, *TINY_DATA, *own, *parts, "trainer.callbacks.every_n_draw_sample.count=1")

    def reasoner_overrides(self, weights: str) -> tuple[str, ...]:
        """Of the training run. weights: the published folder."""
        named = (f"model.backbone.model_name={weights}", *SHORT)
        if not self.is_twin:
            return (*named, f"model.backbone.safetensors_path={weights}", "trainer.run_validation=false")
        return (*named, *TINY_DATA, "model.init=pretrained", "model.video_min_pixels=1024")


def published(generator: str, reasoner: str) -> Settings:
    """Real weights, the recipes made for them, and clips of their size."""
    return Settings(
        generator=generator,
        reasoner=reasoner,
        generator_recipe="vision_sft_nano",
        reasoner_recipe="videophy2_sft_nano",
        clips=("--synthetic", "32", "--val", "4", "--size", "256", "--frames", "61"),
        videos=("--synthetic", "64"),
        clip=("--size", "256", "--frames", "61"),
        picture=("--size", "512x512", "--steps", "20", "--guidance", "4", "--shift", "3"),
    )


def twin(folder: Path) -> Settings:
    """Writes random weights in the published layout into `folder`, and settings that suit them."""
    from cosmos_vfm.sizes import MODEL_SIZES
    from tests.tiny_generator import write_generator
    from tests.tiny_reasoner import write_reasoner

    generator, reasoner = folder / "twin_generator", folder / "twin_reasoner"
    if not generator.is_dir():
        write_generator(generator, MODEL_SIZES["tiny"])
    if not reasoner.is_dir():
        write_reasoner(reasoner)
    return Settings(
        generator=str(generator),
        reasoner=str(reasoner),
        generator_recipe="vision_sft_demo",
        reasoner_recipe="videophy2_demo",
        clips=("--synthetic", "4", "--val", "2"),
        videos=("--synthetic", "8"),
        clip=("--size", "64x64", "--frames", "5", "--steps", "2"),
        picture=("--size", "64x64", "--steps", "4", "--guidance", "3", "--shift", "3"),
        precision="float32",
        is_twin=True,
    )
