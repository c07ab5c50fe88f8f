"""Sections that all model families share: precision, parallelism, EMA, compilation, activation checkpointing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from attrs import frozen

from cosmos_core.config.fields import option, section

__all__ = ["ActivationCheckpointing", "AdaptedModelConfig", "Compile", "Ema", "ModelConfig", "Parallelism"]

DTYPES = ("bfloat16", "float16", "float32")
_NO_AVERAGE = ("enabled", (False,))
_NO_ADAPTERS = ("lora_enabled", (False,))


@frozen(kw_only=True)
class Ema:
    """Exponential moving average of the trained weights, power-function profile (docs/training.md, Moving average)."""

    enabled: bool = option(True, "Keep a float32 moving average of the trained weights.", on_resume="refuse")
    rate: float = option(
        0.1, "Relative width of the averaging profile; smaller forgets sooner.", low=1e-3, high=0.28, unless=_NO_AVERAGE
    )
    iteration_shift: int = option(
        0, "Added to the step before the profile is evaluated.", unit="steps", low=0, unless=_NO_AVERAGE
    )


@frozen(kw_only=True)
class Parallelism:
    """Degrees of the device mesh; shard x replicate x context (x cfg) equals the number of processes."""

    data_parallel_shard_degree: int = option(
        -1, "Processes that share one copy of the weights; -1: derived.", low=1, also=(-1,)
    )
    data_parallel_replicate_degree: int = option(
        1, "Copies of the sharded weights (HSDP); -1: derived.", low=1, also=(-1,)
    )
    context_parallel_shard_degree: int = option(1, "Processes that split one sequence.", low=1, high=32)
    cfg_parallel_shard_degree: int = option(1, "Guidance-parallel degree; always 1 in training.", low=1, high=2)
    fsdp_master_dtype: str = option("float32", "Storage dtype of the weights that train.", choices=DTYPES)
    fsdp_reduce_dtype: str | None = option(
        None, "Dtype of gradient reduction; absent means the master dtype.", choices=DTYPES
    )


@frozen(kw_only=True)
class Compile:
    """torch.compile of the decoder layers."""

    enabled: bool = option(False, "Compile each decoder layer.")
    compile_dynamic: bool = option(True, "Compile for symbolic shapes.", unless=("enabled", (False,)))


@frozen(kw_only=True)
class ActivationCheckpointing:
    """What the backward pass recomputes."""

    mode: str = option(
        "full",
        "What is recomputed; 'auto': as little as fits the card, nothing on a CPU.",
        choices=("full", "selective", "none", "auto"),
    )
    share: float = option(
        1.0,
        "Share of the layers, the first ones, that recompute; 'auto' finds it out.",
        low=0,
        high=1,
        unless=("mode", ("none", "auto")),
    )
    parts: int = option(
        1,
        "Parts, of whole samples, in which a pack passes the model one after the other: fewer activations exist at "
        "once, so that less must recompute. 'auto' finds it out.",
        low=1,
        unless=("mode", ("auto",)),
    )
    save_ops_regex: tuple[str, ...] = option(
        ("fmha",),
        "Operators saved under 'selective', as regular expressions.",
        regex=True,
        unless=("mode", ("full", "none")),
    )
    preserve_rng_state: bool = option(True, "Restore the random state before recomputing.", unless=("mode", ("none",)))
    determinism_check: str = option(
        "default", "Check of recomputed shapes.", choices=("default", "none"), unless=("mode", ("none",))
    )


@frozen(kw_only=True)
class ModelConfig:
    """Base of every family's ``[model]`` section.

    brings_weights: the family finds pretrained weights itself, so checkpoint.load_path is not needed.

    published_key: key that names a published folder to start from; "" if such a folder is converted to a base first.
    """

    brings_weights: ClassVar[bool] = False
    published_key: ClassVar[str] = ""

    init: str = option(
        "pretrained",
        "'pretrained' needs checkpoint.load_path; 'random' trains from fresh weights.",
        choices=("pretrained", "random"),
        on_resume="list",
    )
    precision: str = option("bfloat16", "Dtype of forward and backward.", choices=DTYPES, on_resume="list")
    ema: Ema = section(Ema, "Moving average of the trained weights.", on_resume="list")
    parallelism: Parallelism = section(Parallelism, "Device mesh.", on_resume="list")
    compile: Compile = section(Compile, "Compilation.", on_resume="list")
    activation_checkpointing: ActivationCheckpointing = section(
        ActivationCheckpointing, "Activation checkpointing.", on_resume="list"
    )

    @property
    def hub_names(self) -> tuple[str, ...]:
        """Repositories on the Hub that a run reads besides its base; a plan does not check them."""
        return ()

    @property
    def folder_digests(self) -> Mapping[str, str]:
        """Digest of each folder that the network is built from, by key; a moved folder has the same."""
        return {}

    @property
    def uses_latent_cache(self) -> bool:
        """Whether the family encodes videos, and so has a use for `dataloader_train.cache`."""
        return False

    @property
    def published_base(self) -> str:
        """Name of the published checkpoint that `cosmos convert` makes this model's base from; "" if there is none."""
        return ""


@frozen(kw_only=True)
class AdaptedModelConfig(ModelConfig):
    """``[model]`` of a family that can train low-rank adapters instead of its weights (docs/training.md, Adapters).

    usual_lora_targets: what a plan proposes as `lora_target_modules`.
    """

    usual_lora_targets: ClassVar[str] = "q_proj,k_proj,v_proj,o_proj"

    lora_enabled: bool = option(False, "Train low-rank adapters.")
    lora_rank: int = option(16, "Rank of the adapters.", low=1, unless=_NO_ADAPTERS)
    lora_alpha: int = option(32, "Adapter scale is alpha / rank.", low=1, unless=_NO_ADAPTERS)
    lora_target_modules: str = option(
        "q_proj,k_proj,v_proj,o_proj",
        "Adapted linear layers: names or dotted endings, comma-separated.",
        unless=_NO_ADAPTERS,
    )

    @property
    def lora_scale(self) -> float | None:
        """Factor of the adapters' output; None without adapters."""
        return self.lora_alpha / self.lora_rank if self.lora_enabled else None

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """The names in `lora_target_modules`."""
        return tuple(name.strip() for name in self.lora_target_modules.split(",") if name.strip())
