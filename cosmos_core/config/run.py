"""The shared sections of a run. `[model]`, datasets, callbacks and trackers are typed by their names."""

from __future__ import annotations

from typing import Any, Literal

import attrs
from attrs import frozen

from cosmos_core.config.fields import option, required, section
from cosmos_core.config.model import ModelConfig

__all__ = [
    "CheckpointConfig",
    "DataloaderConfig",
    "DatasetConfig",
    "JobConfig",
    "OptimizerConfig",
    "RunConfig",
    "SchedulerConfig",
    "TimeoutConfig",
    "TrackerConfig",
    "TrainerConfig",
    "TypicalSample",
]


@frozen(kw_only=True)
class JobConfig:
    """The task, and the run directory: <output root>/<project>/<group>/<name>."""

    task: str = required("Model family, e.g. 'vfm' (generator) or 'vlm' (reasoner).", on_resume="refuse")
    experiment: str | None = option(None, "Experiment name of the recipe; names the parent when there is no 'extends'.")
    project: str = option("cosmos3", "First part of the run directory; project in trackers.")
    group: str = option("sft", "Second part of the run directory; group in trackers.")
    name: str = required("Third part of the run directory; run name in trackers.")
    wandb_mode: str = option("disabled", "Weights & Biases.", choices=("online", "offline", "disabled"))
    upload_reproducible_setup: bool = option(False, "Accepted for old recipes; has no effect.")


@frozen(kw_only=True)
class OptimizerConfig:
    """AdamW and which parameters train (docs/training.md, What trains)."""

    lr: float = option(1e-4, "Base learning rate.", low=0)
    betas: tuple[float, float] = option((0.9, 0.99), "Decay of the two moments.", low=0, below=1)
    eps: float = option(1e-8, "Added to the denominator.", above=0)
    weight_decay: float = option(0.0, "Decoupled weight decay.", low=0)
    fused: bool = option(True, "Use the fused kernel.")
    keys_to_select: tuple[str, ...] = option(
        (), "Train only parameters whose name contains one of these; empty: all.", on_resume="refuse_training"
    )
    lr_multipliers: dict[str, float] = option(
        {}, "Substring of a parameter name -> factor on lr; the longest match wins.", low=0
    )


@frozen(kw_only=True)
class SchedulerConfig:
    """Learning-rate factor over optimizer steps, in cycles; one list entry a cycle.

    See docs/training.md, Learning-rate schedule.
    """

    type: str = option("LambdaCosine", "Shape after the warm-up.", choices=("LambdaCosine", "LambdaLinear"))
    cycle_lengths: tuple[int, ...] = option((1000,), "Length of each cycle, warm-up included.", unit="steps", low=1)
    warm_up_steps: tuple[int, ...] = option((50,), "Linear warm-up of each cycle.", unit="steps", low=0)
    f_start: tuple[float, ...] = option((0.0,), "Factor at the start of each cycle.", low=0)
    f_max: tuple[float, ...] = option((1.0,), "Factor after the warm-up.", low=0)
    f_min: tuple[float, ...] = option((0.0,), "Factor at the end of each cycle.", low=0)
    verbosity_interval: int = option(0, "Log the factor every so many steps; 0: never.", unit="steps", low=0)


@frozen(kw_only=True)
class TimeoutConfig:
    """How long a rank may make no progress before it is named and the run ends (docs/training.md, Ranks that hang)."""

    startup: float = option(
        3600.0, "In a phase of the start, a save, a validation or a callback; 0: no limit.", unit="seconds", low=0
    )
    step: float = option(600.0, "In a phase of a step after the first; 0: no limit.", unit="seconds", low=0)


@frozen(kw_only=True)
class TrainerConfig:
    """Length and intervals of the run."""

    max_iter: int = option(500, "Optimizer steps in total.", unit="steps", low=1)
    grad_accum_iter: int = option(1, "Micro-batches a step.", low=1)
    logging_iter: int = option(10, "Console and tracker cadence.", unit="steps", low=1)
    log_samples: bool = option(False, "Write every sample that was trained on to samples_rank<r>.jsonl.")
    seed: int = option(42, "Seed of weights, noise, timesteps and data order.", low=0)
    deterministic: bool = option(False, "Repeat to the last bit, also on a GPU, at some cost in speed.")
    distributed_parallelism: str = option("fsdp", "How parameters are distributed.", choices=("fsdp",))
    run_validation: bool = option(False, "Evaluate on dataloader_val during the run.")
    run_validation_on_start: bool = option(True, "Evaluate before the first step too, when validation is on.")
    validation_iter: int = option(100, "Evaluate every so many steps.", unit="steps", low=1)
    max_val_iter: int | None = option(None, "At most this many validation batches; absent: all.", low=1)
    on_nonfinite: str = option(
        "skip",
        "A step whose loss or gradient is not finite: 'skip' skips its update, 'rollback' goes back to the last "
        "checkpoint and leaves out the data since then, 'stop' ends the run.",
        choices=("skip", "rollback", "stop"),
    )
    max_rollbacks: int = option(
        3,
        "How often a run goes back before such a step ends it.",
        low=1,
        unless=("on_nonfinite", ("skip", "stop")),
    )
    max_consecutive_nan: int = option(
        100,
        "Skipped non-finite steps in a row that end the run.",
        unit="steps",
        low=1,
        unless=("on_nonfinite", ("rollback", "stop")),
    )
    spike_factor: float = option(
        10.0,
        "Log a loss or gradient norm that lies so many times its usual spread above its running median; 0: none.",
        low=0,
    )
    timeout: TimeoutConfig = section(TimeoutConfig, "Ranks that hang.")
    stop_grace: float = option(
        600.0, "A run that was asked to stop ends without saving after this time; 0: no limit.", unit="seconds", low=0
    )
    callbacks: dict[str, Any] = attrs.field(
        factory=dict, metadata={"help": "One table a callback, typed by the callback of that name."}
    )


@frozen(kw_only=True)
class KeepBest:
    """Which checkpoints have the best validations."""

    metric: str = option("val_loss", "Metric of metrics.jsonl, of the newest validation up to each checkpoint.")
    mode: str = option("min", "Whether low or high values are good.", choices=("min", "max"))
    count: int = option(0, "With keep_last: how many of the best to keep; 0: none.", low=0)


@frozen(kw_only=True)
class CheckpointConfig:
    """What is loaded, and how often the run is saved."""

    load_path: str | None = option(None, "Checkpoint to start from: an iter_<N>, checkpoints/, run or base folder.")
    save_iter: int = option(100, "Save every so many steps, and at the end.", unit="steps", low=1)
    save_every_minutes: float | None = option(
        None, "Also save after the first step that ends so long after the last save.", unit="minutes", above=0
    )
    async_save: bool = option(
        True, "Write checkpoints in a process beside each rank while training goes on; the last one is waited for."
    )
    max_failed_saves: int = option(
        2, "Failed saves in a row after which training still goes on; each save is tried twice.", unit="saves", low=0
    )
    keep_last: int | None = option(
        None, "How many of the newest checkpoints to keep; absent: all.", unit="checkpoints", low=1
    )
    keep_every: int | None = option(
        None,
        "With keep_last: also keep one checkpoint every so many steps.",
        unit="steps",
        low=1,
        unless=("keep_last", (None,)),
    )
    keep_best: KeepBest = section(KeepBest, "Also keep those that validated best.")
    keys_to_skip_loading: tuple[str, ...] = option(
        (), "A warm start does not load tensors whose name contains one of these."
    )
    strict_resume: bool = option(True, "A tensor the checkpoint lacks is an error on a warm start.")
    fallback: bool = option(False, "Resume from the newest undamaged checkpoint where newer ones are damaged.")
    include_frozen: bool | None = option(
        None,
        "Save frozen weights too, so that a checkpoint needs no base; false leaves them to the base. "
        "Absent: true, and false for a run that trains adapters alone on a base.",
    )

    def leaves_frozen(self, *, adapters_alone: bool) -> bool:
        """Whether checkpoints leave frozen weights to their base. adapters_alone: of a run that trains nothing else."""
        return adapters_alone if self.include_frozen is None else not self.include_frozen


@frozen(kw_only=True)
class TypicalSample:
    """A usual sample of a dataset, for plans.

    frames: 1 for a picture, 0 for text alone. text: tokens. pictures: how many there are of this size.
    """

    frames: int
    height: int
    width: int
    text: int
    pictures: int = 1


@frozen(kw_only=True)
class DatasetConfig:
    """Base of every dataset's table."""

    type: str = required("Name of the dataset; types the rest of the table.")
    weight: float | None = option(None, "Share of the samples in a mixture, divided by the sum of all.", above=0)
    name: str | None = option(None, "Name in a mixture's metrics and messages; absent: the type.")
    changed: str = option(
        "refuse",
        "Other rows when a run resumes: 'refuse', or 'accept' to go on with those that the epoch has not seen.",
        choices=("refuse", "accept"),
    )

    @property
    def label(self) -> str:
        """The name, else the type without its distribution."""
        return self.name or self.type.rpartition(":")[2]

    @property
    def place(self) -> str | None:
        """Local folder or file that the data lies in, for the plan; None when it comes from elsewhere."""
        return None

    @property
    def hub_names(self) -> tuple[str, ...]:
        """Repositories on the Hub that the data comes from; a plan does not check them."""
        return ()

    @property
    def typical(self) -> TypicalSample | None:
        """What a usual sample is, from the options alone; None where that cannot be said."""
        return None


@frozen(kw_only=True)
class Pool:
    """The pool packer (docs/data.md, Pool packing)."""

    size: int = option(16, "Samples in the pool.", low=1)
    long_threshold: int = option(6400, "Samples at least this long are a batch of their own.", unit="tokens", low=1)
    strategy: str = option("prefer_closest", "Among equally cheap samples.", choices=("prefer_closest", "prefer_first"))
    halve_long: bool = option(True, "Half the budget where a sample has 1000 tokens or more.")


@frozen(kw_only=True)
class DataloaderConfig:
    """A dataset, or a mixture of several, and how samples become batches. At least one of the two caps is set."""

    dataset: DatasetConfig | None = attrs.field(
        default=None, metadata={"help": "Table with 'type', typed by the dataset of that name."}
    )
    mixture: tuple[DatasetConfig, ...] = attrs.field(
        default=(),
        metadata={"help": "Several datasets instead of one: tables as of dataset, each with a weight."},
    )
    max_samples_per_batch: int | None = option(None, "Samples in a micro-batch.", low=1)
    max_sequence_length: int | None = option(None, "Tokens in a packed micro-batch (strictly fewer).", low=1)
    packing: str = option(
        "fill",
        "'fill' takes samples in order as long as they fit; 'pool' packs similar lengths under max_sequence_length.",
        choices=("fill", "pool"),
    )
    pool: Pool = section(Pool, "The pool packer.", unless=("packing", ("fill",)))
    max_caption_tokens: int = option(2048, "Captions are cut to this many tokens.", unit="tokens", low=1)
    num_workers: int | Literal["auto"] = option(
        "auto",
        "Processes that decode, of each rank; 'auto': as many as keep up and have a core; 0: the training process.",
        low=0,
        high=1024,
        also=("auto",),
    )
    prefetch_factor: int = option(4, "Samples each worker keeps ready.", low=1, high=4096)
    worker_timeout: float = option(
        180.0, "Workers that give nothing for so long are replaced, twice; 0: no limit.", unit="seconds", low=0
    )
    seed: int = option(42, "Seed of order and augmentation.", low=0)
    shuffle: bool = option(True, "A new order every epoch.")
    cache: str | None = option(
        None,
        "Folder of `cosmos data cache`; samples it lacks are encoded as they come. 'auto': runs fill it themselves.",
    )
    cache_dir: str | None = option(
        None,
        "Folder of the cache of 'auto', for all runs; absent: latent_cache in the output root.",
        unless=("cache", (None,)),
    )
    cache_gib: float = option(
        100.0,
        "The most that 'auto' keeps; the least recently used goes first.",
        unit="GiB",
        above=0,
        unless=("cache", (None,)),
    )
    max_bad_sample_fraction: float = option(
        0.05, "Fraction of unreadable samples above which the run ends.", low=0, high=1
    )
    overlong: str = option(
        "error",
        "What becomes of a sample longer than a pack: it ends the run, is left out, or is made shorter by the family.",
        choices=("error", "skip", "resize", "truncate_answer"),
    )

    @property
    def fills_cache(self) -> bool:
        """Whether what is encoded is kept, in `cache_dir`."""
        return self.cache == "auto"

    @property
    def datasets(self) -> dict[str, DatasetConfig]:
        """Every dataset by its key below this section: 'dataset', or 'mixture[0]', 'mixture[1]' and so on."""
        single = {} if self.dataset is None else {"dataset": self.dataset}
        return single | {f"mixture[{index}]": member for index, member in enumerate(self.mixture)}

    @property
    def typical(self) -> TypicalSample | None:
        """The usual sample of the dataset, or the largest of a mixture's; None where none can be said."""
        samples = [dataset.typical for dataset in self.datasets.values()]
        known = [sample for sample in samples if sample is not None]
        return max(known, key=lambda sample: sample.frames * sample.height * sample.width, default=None)


@frozen(kw_only=True)
class TrackerConfig:
    """Base of every tracker's table."""

    enabled: bool = option(True, "Use this tracker.")


@frozen(kw_only=True)
class RunConfig:
    """A whole run. Plain values only; derived values belong to the plan."""

    job: JobConfig = required("Task and run directory.")
    model: ModelConfig = required("The network and its objective.", on_resume="refuse")
    optimizer: OptimizerConfig = section(OptimizerConfig, "Optimizer.")
    scheduler: SchedulerConfig = section(SchedulerConfig, "Learning-rate schedule.")
    trainer: TrainerConfig = section(TrainerConfig, "Training loop.")
    checkpoint: CheckpointConfig = section(CheckpointConfig, "Checkpoints.")
    dataloader_train: DataloaderConfig = required("Training data.")
    dataloader_val: DataloaderConfig | None = attrs.field(default=None, metadata={"help": "Validation data."})
    trackers: dict[str, Any] = attrs.field(
        factory=dict, metadata={"help": "One table a tracker, typed by the tracker of that name."}
    )
    custom: dict[str, Any] = attrs.field(factory=dict, metadata={"help": "Free-form; recorded, never read."})

    @property
    def dataloaders(self) -> dict[str, DataloaderConfig]:
        """The sections of data that there are, by name."""
        validation = {} if self.dataloader_val is None else {"dataloader_val": self.dataloader_val}
        return {"dataloader_train": self.dataloader_train, **validation}

    @property
    def data_sections(self) -> dict[str, DataloaderConfig]:
        """Those that the run reads: the training data and, if it validates, the validation data."""
        return self.dataloaders if self.trainer.run_validation else {"dataloader_train": self.dataloader_train}

    @property
    def datasets(self) -> dict[str, DatasetConfig]:
        """The datasets that the run reads, by the key of their table."""
        sections = self.data_sections.items()
        return {f"{name}.{key}": data for name, loader in sections for key, data in loader.datasets.items()}
