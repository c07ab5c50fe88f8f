"""What this distribution offers to cosmos: the generator family `vfm` and its callbacks."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import isfile
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from attrs import evolve

from cosmos_core.errors import UserError
from cosmos_core.plugin import (
    CallbackSpec,
    CheckpointSpec,
    CommandSpec,
    ConverterSpec,
    DoctorSpec,
    ModelFamilySpec,
    Problem,
    hookimpl,
)

if TYPE_CHECKING:
    from cosmos_core.plan import RunPlan
    from cosmos_vfm.config import VfmConfig

__all__ = ["COSMOS_API"]

COSMOS_API = 1


@hookimpl
def cosmos_model_families() -> Iterable[ModelFamilySpec]:
    """The generator."""
    from cosmos_vfm.checkpoints.identify import FORMAT

    yield ModelFamilySpec(
        name="vfm",
        summary="Cosmos 3 generator: text, image and video to video",
        config="cosmos_vfm.config:VfmConfig",
        family="cosmos_vfm.family:VfmFamily",
        accepts=("video_text",),
        reads=(FORMAT,),
    )


@hookimpl
def cosmos_callbacks() -> Iterable[CallbackSpec]:
    """Samples during a run; compilation of the video tokenizer."""
    yield CallbackSpec(
        name="every_n_draw_sample",
        summary="Draws samples before, during and after training",
        config="cosmos_vfm.config:DrawSamples",
        callback="cosmos_vfm.callbacks.every_n_draw_sample:DrawSamplesCallback",
        tasks=("vfm",),
        folder="EveryNDrawSample",
    )
    yield CallbackSpec(
        name="compile_tokenizer",
        summary="Compiles the encoder of the video tokenizer",
        config="cosmos_vfm.config:CompileTokenizer",
        callback="cosmos_vfm.callbacks.compile_tokenizer:CompileTokenizerCallback",
        tasks=("vfm",),
    )


@hookimpl
def cosmos_commands() -> Iterable[CommandSpec]:
    """Generation, and the latent cache."""
    yield CommandSpec(
        path=("generate",),
        summary="Make clips and pictures from prompts",
        command="cosmos_vfm.commands.generate:generate",
        group="models",
    )
    yield CommandSpec(
        path=("data", "cache"),
        summary="Encode every clip once",
        command="cosmos_vfm.commands.cache:cache",
        group="data",
    )


@hookimpl
def cosmos_checkpoints() -> Iterable[CheckpointSpec]:
    """The released generators."""
    from cosmos_vfm.required_files import VAE_FILE

    for name, summary in (
        ("Cosmos3-Edge", "2B"),
        ("Cosmos3-Nano", "8B"),
        ("Cosmos3-Super", "32B"),
        ("Cosmos3-Super-Image2Video", "32B, image to video"),
        ("Cosmos3-Super-Text2Image", "32B, text to image"),
        ("Cosmos3-Super-Text2Image-4Step", "32B, text to image in four steps"),
        ("Cosmos3-Super-Image2Video-4Step", "32B, image to video in four steps"),
    ):
        yield CheckpointSpec(name=name, summary=f"Generator, {summary}", repo=f"nvidia/{name}")
    yield CheckpointSpec(
        name="Wan2.2-VAE",
        summary="Video tokenizer of every generator",
        repo="Wan-AI/Wan2.2-TI2V-5B",
        revision="921dbaf3f1674a56f47e83fb80a34bac8a8f203e",
        files=(VAE_FILE,),
    )


@hookimpl
def cosmos_converters() -> Iterable[ConverterSpec]:
    """Published layout to a base checkpoint, and a trained one to diffusers."""
    from cosmos_vfm.checkpoints.identify import FORMAT, SEARCHED

    module = "cosmos_vfm.checkpoints.converters"
    yield ConverterSpec(
        source=FORMAT,
        target="dcp",
        task="vfm",
        summary="Published generator to base",
        convert=f"{module}:convert",
        looks_for=SEARCHED,
    )
    yield ConverterSpec(
        source="dcp",
        target="hf",
        task="vfm",
        summary="Checkpoint to diffusers",
        convert=f"{module}:export",
        describe="cosmos_vfm.checkpoints.describe:describe",
    )


@hookimpl
def cosmos_doctor_checks() -> Iterable[DoctorSpec]:
    """NATTEN, if it is installed."""
    yield DoctorSpec(name="natten", summary="Attention of three_way through NATTEN", checks="cosmos_vfm.doctor:checks")


@hookimpl
def cosmos_identify_checkpoint(path: Path) -> str | None:
    """A generator in the published layout, or adapters of one."""
    from cosmos_vfm.checkpoints.identify import ADAPTERS, FORMAT, looks_published

    if (path / "pytorch_lora_weights.safetensors").is_file():
        return ADAPTERS
    return FORMAT if looks_published(path) else None


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """Divisible heads and existing files."""
    from cosmos_vfm.config import VfmConfig
    from cosmos_vfm.required_files import file_problems

    model = plan.config.model
    if not isinstance(model, VfmConfig):
        return
    yield from _context(model, plan)
    yield from file_problems(model)
    yield from _cache(plan)
    yield from _prompts(plan)


def _context(model: VfmConfig, plan: RunPlan) -> Iterable[Problem]:
    """Number of heads that context parallelism cannot divide."""
    from cosmos_vfm.sizes import MODEL_SIZES

    heads, degree = MODEL_SIZES[model.tier].heads, plan.degrees.context
    if heads % degree:
        world = plan.degrees.world
        divisors = [str(number) for number in range(1, world + 1) if heads % number == 0 and world % number == 0]
        even = "; model.tier=tiny_even has 8 heads" if model.tier == "tiny" else ""
        yield Problem(
            message=f"is {degree}, which does not divide the {heads} heads of model size '{model.tier}'",
            key="model.parallelism.context_parallel_shard_degree",
            hint=f"for {world} processes it can be {', '.join(divisors)}{even}",
        )


def _cache(plan: RunPlan) -> Iterable[Problem]:
    data = plan.config.dataloader_train
    folder = data.cache
    if data.fills_cache and data.cache_dir is not None and isfile(data.cache_dir):
        hint = "name a folder, which need not exist"
        yield Problem(message=f"{data.cache_dir} is a file", key="dataloader_train.cache_dir", hint=hint)
    if folder is not None and not data.fills_cache and not isfile(f"{folder}/cache.json"):
        others = [text for text in plan.command if not text.startswith("dataloader_train.cache=")]
        command = join(("cosmos", "data", "cache", *others, "-o", folder))
        key = "dataloader_train.cache"
        yield Problem(message=f"{folder} is not a latent cache", key=key, hint=f"`{command}` makes one")


def _prompts(plan: RunPlan) -> Iterable[Problem]:
    """What is wrong with the file of prompts that previews draw."""
    from cosmos_vfm.config import DrawSamples
    from cosmos_vfm.generate.prompt_file import read_prompts

    for name, options in plan.config.trainer.callbacks.items():
        if isinstance(options, DrawSamples) and options.prompts_file is not None:
            try:
                read_prompts(Path(options.prompts_file))
            except UserError as error:
                key = f"trainer.callbacks.{name}.prompts_file"
                yield from (evolve(problem, key=key) for problem in error.problems)
