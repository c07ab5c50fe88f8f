"""Options of the reasoner family and of its datasets."""

from __future__ import annotations

from os.path import isdir
from pathlib import Path
from typing import Any, ClassVar

from attrs import frozen

from cosmos_core.config import AdaptedModelConfig, Ema, FileDatasetConfig, option, section
from cosmos_vlm.catalog import TINY, configuration_digest, is_hub_name

__all__ = ["Average", "Backbone", "ChatConfig", "Freeze", "LlavaConfig", "RowsConfig", "VlmConfig"]


@frozen(kw_only=True)
class Backbone:
    """Where architecture, tokenizer and weights come from."""

    model_name: str = option("Qwen/Qwen3-VL-8B-Instruct", "Hub name or folder of the model.")
    safetensors_path: str | None = option(
        None, "Folder or Hub name whose *.safetensors replace the model's weights.", on_resume="list"
    )


@frozen(kw_only=True)
class Freeze:
    """Parts that do not train (docs/models/reasoner.md, Freezing)."""

    freeze_vision_encoder: bool = option(False, "Freeze patch embedding, positions and blocks of the vision tower.")
    freeze_mm_projector: bool = option(False, "Freeze the mergers between tower and language model.")
    freeze_llm: bool = option(False, "Freeze the language model and its head.")
    frozen_params: tuple[str, ...] = option((), "Regular expressions; matching parameters are frozen.", regex=True)
    trainable_params: tuple[str, ...] = option(
        (), "Regular expressions; parameters that match none are frozen. Not beside frozen_params.", regex=True
    )

    @trainable_params.validator
    def _not_beside_frozen(self, attribute: Any, patterns: tuple[str, ...]) -> None:
        if patterns and self.frozen_params:
            raise ValueError("frozen_params is set too; name what trains or what does not")


@frozen(kw_only=True)
class Average(Ema):
    """The reasoner keeps no average; the table is there for recipes that switch it off."""

    enabled: bool = option(False, "The reasoner keeps none: true is an error.", on_resume="refuse")


@frozen(kw_only=True)
class VlmConfig(AdaptedModelConfig):
    """``[model]`` of the reasoner."""

    brings_weights: ClassVar[bool] = True
    published_key: ClassVar[str] = "model.backbone.model_name"

    attn_implementation: str = option(
        "cosmos",
        "Attention; 'cosmos' takes the fastest kernel of the device.",
        choices=("cosmos", "flash_attention_2", "sdpa", "eager"),
        on_resume="list",
    )
    ema: Average = section(Average, "Moving average of the trained weights.", on_resume="list")
    backbone: Backbone = section(Backbone, "Architecture, tokenizer, weights.")
    num_layers: int | None = option(
        None,
        "Only the first layers of the language model, for benchmarks and debugging; absent: all. The tower stays.",
        low=1,
    )
    freeze: Freeze = section(Freeze, "Parts that do not train.", on_resume="refuse_training")
    image_min_pixels: int | None = option(
        None, "Smaller images are enlarged; absent: the backbone's own.", unit="pixels", low=1024, on_resume="list"
    )
    image_max_pixels: int | None = option(
        None, "Larger images are reduced; absent: the backbone's own.", unit="pixels", low=1024, on_resume="list"
    )
    video_min_pixels: int | None = option(
        None, "Over all frames; absent: the backbone's own.", unit="pixels", low=1024, on_resume="list"
    )
    video_max_pixels: int | None = option(
        None, "Over all frames; absent: the backbone's own.", unit="pixels", low=1024, on_resume="list"
    )
    max_new_tokens: int = option(
        0,
        "Most tokens of an answer in validation; 0: no answers.",
        low=0,
        high=256,
        on_resume="list",
    )
    num_sample_answers: int = option(
        8, "Answers that validation asks for where no metric is made for the dataset.", low=0, on_resume="list"
    )
    loss_chunk_size: int = option(
        2048, "Learned tokens whose logits exist at a time.", unit="tokens", low=1, on_resume="list"
    )

    @property
    def hub_names(self) -> tuple[str, ...]:
        """The backbone's, where it is no folder."""
        names = (self.backbone.model_name, self.backbone.safetensors_path)
        return tuple(name for name in names if name and is_hub_name(name))

    @property
    def folder_digests(self) -> dict[str, str]:
        """The backbone's, where it is a folder."""
        name = self.backbone.model_name
        local = name != TINY and isdir(name)
        return {"model.backbone.model_name": configuration_digest(Path(name))} if local else {}

    @image_max_pixels.validator
    def _image_bounds(self, attribute: Any, most: int | None) -> None:
        _check_not_below(most, "image_min_pixels", self.image_min_pixels)

    @video_max_pixels.validator
    def _video_bounds(self, attribute: Any, most: int | None) -> None:
        _check_not_below(most, "video_min_pixels", self.video_min_pixels)


def _check_not_below(most: int | None, name: str, least: int | None) -> None:
    if most is not None and least is not None and most < least:
        raise ValueError(f"is {most}, below {name}, which is {least}")


@frozen(kw_only=True)
class RowsConfig(FileDatasetConfig):
    """Base of datasets whose rows lie in Parquet or JSON files, local or on the Hub."""

    path: str | None = option(
        None, "Folder of a local copy, Parquet or JSON, or of a mirror with one for each subset; absent: streamed."
    )
    repo: str | None = option(None, "Dataset repository on the Hub.")
    revision: str = option("main", "Revision of the repository.")
    subset: str | None = option(
        None, "Part of the dataset, one of the repository's configurations; absent: the only one."
    )
    split: str = option("train", "Split of the subset.")
    limit: int | None = option(None, "Only the first so many rows; absent: all.", unit="samples", low=1)
    shuffle_buffer: int = option(1000, "About so many rows are shuffled among each other.", unit="samples", low=1)
    lanes: int = option(
        16,
        "Shards that are read side by side; with a multiple of ranks x workers no two of these read the same shard.",
        low=1,
        high=1024,
    )

    @property
    def place(self) -> str | None:
        """The configured path."""
        return self.path

    @property
    def hub_names(self) -> tuple[str, ...]:
        """The repository, without a local copy."""
        return () if self.path or self.repo is None else (self.repo,)


@frozen(kw_only=True)
class ChatConfig(RowsConfig):
    """Dialogs with images and videos in any of the usual forms (docs/data.md, Dialogs)."""

    path: str | None = option(
        None, "Folder with Parquet, JSON or JSONL files, or one such file; absent: streamed from `repo`."
    )
    target_fps: float = option(2.0, "Frames of a video are sampled at about this rate.", unit="frames/s", low=0.1)
    max_frames: int = option(32, "Most frames of a video, spread evenly.", unit="frames", low=2)


@frozen(kw_only=True)
class LlavaConfig(RowsConfig):
    """LLaVA-OneVision: images and conversations, streamed from the Hub or read from a local copy."""

    repo: str = option("lmms-lab/LLaVA-OneVision-Data", "Dataset repository on the Hub.")
    subset: str = option("ai2d(gpt4v)", "Part of the dataset, one of the repository's configurations.")
