"""One `cosmos generate` command: which weights, how they run, where files go. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from cosmos_core.config import DataloaderConfig, DatasetConfig, Ema, JobConfig, RunConfig
from cosmos_core.config.env import lookup
from cosmos_core.config.secrets import without_secrets
from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import locate_checkpoint
from cosmos_core.plan import RunPaths
from cosmos_core.plan.paths import step_of
from cosmos_core.plan.source import Source, check_reads, find_source, locate_source, named_folder
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load_recorded, resolve
from cosmos_core.strict_json import read_object
from cosmos_core.train.load_for_eval import check_meaning
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.generate.clips import Clip
from cosmos_vfm.generate.recorded import generation_of, recorded_generation

__all__ = ["ConfiguredSource", "Job", "configure_sources", "default_output"]


@frozen(kw_only=True)
class ConfiguredSource:
    """A source with the settings that its weights run with.

    label: short, and another for each source of a command. recorded: whether a run or a recipe gave the settings.
    weights: of a run, as in `load_source`. generation: defaults that the weights carry, as an export records them.
    """

    label: str
    source: Source
    config: RunConfig = field(repr=False)
    recorded: bool
    weights: str = "ema"
    generation: Mapping[str, Any] = field(factory=dict)

    @property
    def model(self) -> VfmConfig:
        """``[model]``."""
        assert isinstance(self.config.model, VfmConfig)
        return self.config.model

    @property
    def step(self) -> int | None:
        """Of the checkpoint; None for other weights."""
        weights = self.source.weights if self.weights != "fresh" else None
        return step_of(weights.resolve()) if weights is not None else None

    @property
    def averaged(self) -> bool:
        """Whether the weights are a moving average."""
        averages = self.model.ema.enabled and not self.model.lora_enabled
        return self.weights == "ema" and self.fine_tuned and averages

    @property
    def description(self) -> str:
        """Where the weights are."""
        return f"the start of {self.source.folder}" if self.weights == "fresh" else str(self.source.weights)

    @property
    def fine_tuned(self) -> bool:
        """Whether it comes from a run on this machine."""
        return self.source.kind in ("run", "checkpoint")


@frozen(kw_only=True)
class Job:
    """source, compare: folders or published names. recipe, overrides: settings of a source that recorded none.

    vae, text_tokenizer: paths instead of the settings'. precision, compiled: None for what suits the device. limit:
    most tokens of a prompt; those of the base models' owners have up to 2,100. one_clip: ranks share each clip instead
    of dividing the clips.

    Known once the command is checked: sources (with the files of their folders), clips, output, and conditions, the
    first frames of clips that come from a dataset, by the clip's index, as in a SampleRequest. done: index and source
    of the clips that an interrupted command has made.
    """

    source: str
    compare: tuple[str, ...] = ()
    step: int | None = None
    weights: str = "ema"
    adapters: tuple[str, ...] = ()
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    vae: str | None = None
    text_tokenizer: str | None = None
    precision: str | None = None
    compiled: bool | None = None
    offload: bool = False
    limit: int = 4096
    nproc: int = 1
    one_clip: bool = False
    output: Path = Path()
    sources: tuple[ConfiguredSource, ...] = ()
    clips: tuple[Clip, ...] = ()
    conditions: Mapping[int, Any] = field(factory=dict, repr=False, eq=False)
    done: Collection[tuple[int, str]] = ()

    @cached_property
    def planned(self) -> dict[tuple[int, str], dict[str, Any]]:
        """What results.jsonl says of each clip, but for what is known once it is made; by index and source."""
        return {
            (clip.index, configured.label): {
                **_planned(clip, configured, self.adapters if number == 0 else ()),
                "recipe": self.recipe,
                "overrides": [without_secrets(text) for text in self.overrides],
            }
            for number, configured in enumerate(self.sources)
            for clip in self.clips
        }


def _planned(clip: Clip, configured: ConfiguredSource, adapters: Sequence[str]) -> dict[str, Any]:
    video, text = configured.model.tokenizer, configured.model.text_tokenizer
    return {
        "clip": clip.index,
        "source": configured.label,
        "weights": configured.description,
        "kind": configured.source.kind,
        "step": configured.step,
        "averaged": configured.averaged,
        "adapters": list(adapters),
        "model_size": configured.model.tier,
        "precision": configured.model.precision,
        "video_tokenizer": video.vae_path if video.type == "wan22" else video.type,
        "text_tokenizer": text.path if text.type == "hf" else text.type,
        "mode": clip.mode,
        "prompt": clip.prompt,
        "text": clip.text,
        "negative_prompt": clip.negative,
        "image": str(clip.image) if clip.image is not None else None,
        "video": str(clip.video) if clip.video is not None else None,
        "condition_frames": clip.condition_frames,
        "keep_last": clip.keep_last,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "fps": clip.fps,
        "seed": clip.seed,
        "steps": clip.steps,
        "guidance": clip.guidance,
        "shift": clip.shift,
        "interval": list(clip.interval) if clip.interval is not None else None,
    }


def configure_sources(job: Job, plugins: PluginManager) -> list[ConfiguredSource]:
    """The sources in order, the first and those compared with it.

    A source without settings of its own has those of `recipe`, else those of the first source, else the defaults.
    Weights that training started from are taken of the first source only, to be compared with what became of them.
    Raises UserError when one is nothing that can generate.
    """
    configured: list[ConfiguredSource] = []
    for name in (job.source, *job.compare):
        source = _find(name, plugins, job.step if not configured else None)
        if source.kind == "published":
            check_reads(source, "vfm", plugins)
            _check_steps(source.folder)
        if not configured and job.weights == "live" and source.kind not in ("run", "checkpoint"):
            raise UserError(f"--weights live is for runs; {source.folder} is {source.label}")
        labels = [entry.label for entry in configured]
        weights = "ema" if configured and job.weights == "fresh" else job.weights
        first = configured[0].config if configured else None
        config = _config(source, evolve(job, weights=weights), first, plugins)
        recorded = source.record is not None or job.recipe is not None or (bool(configured) and configured[0].recorded)
        label = _label(name, source, labels) + ("-start" if weights == "fresh" else "")
        generation = _generation(source, config, job)
        configured.append(
            ConfiguredSource(
                label=label, source=source, config=config, recorded=recorded, weights=weights, generation=generation
            )
        )
    if job.recipe is not None and all(entry.source.record is not None for entry in configured):
        problem = Problem(message=f"is {job.recipe}", key="--recipe", hint="leave it out; key=value changes a setting")
        raise UserError("the settings of these weights are recorded, so no recipe is used", [problem])
    return configured


def _generation(source: Source, config: RunConfig, job: Job) -> Mapping[str, Any]:
    """What the weights say of their use: a run as its export would say it."""
    exported = recorded_generation(source.folder) if source.kind == "published" else {}
    if source.record is None or (exported and not job.overrides):
        return exported
    assert isinstance(config.model, VfmConfig)
    return generation_of(config.model, config)


def _find(name: str, plugins: PluginManager, step: int | None) -> Source:
    if "/" in name and named_folder(name, plugins) is None:  # A repository on the Hub.
        source = find_source(locate_checkpoint(name, plugins.registry).path, plugins, step=step)
    else:
        source = locate_source(name, plugins, step=step)
    if source.weights is None:
        problem = Problem(message="no step has been saved yet", file=str(source.folder))
        raise UserError(f"{name} holds no complete checkpoint", [problem])
    return source


def _config(source: Source, job: Job, first: RunConfig | None, plugins: PluginManager) -> RunConfig:
    if source.record is not None:
        config = load_recorded(source.record, job.overrides, plugins=plugins)
        check_meaning(source, config, job.weights)
    elif job.recipe is not None:
        config = resolve(job.recipe, job.overrides, plugins=plugins).config
    elif first is not None:
        config = first
    elif job.overrides:
        problem = Problem(message=f"is {source.label}", file=str(source.folder), hint="add --recipe NAME")
        raise UserError("key=value pairs change the settings of a run or a recipe, and there is none", [problem])
    else:
        # Size and tokenizers come from the weights' folder.
        none = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=1)
        model = VfmConfig(ema=Ema(enabled=False))
        config = RunConfig(job=JobConfig(task="vfm", name="generate"), model=model, dataloader_train=none)
    if not isinstance(config.model, VfmConfig):
        hint = "`cosmos chat` talks to reasoners" if config.job.task == "vlm" else ""
        problem = Problem(message=f"is '{config.job.task}'", key="job.task", file=str(source.folder), hint=hint)
        raise UserError("only the generator makes clips", [problem])
    return _with_paths(config, config.model, job)


def _with_paths(config: RunConfig, model: VfmConfig, job: Job) -> RunConfig:
    video, text = model.tokenizer, model.text_tokenizer
    vae = job.vae or (lookup("WAN_VAE_PATH") if video.vae_path is None else None)
    if vae is not None:
        video = evolve(video, type="wan22", vae_path=vae)
    if job.text_tokenizer == "words":
        text = evolve(text, type="words")
    elif job.text_tokenizer is not None:
        text = evolve(text, type="hf", path=job.text_tokenizer)
    return evolve(config, model=evolve(model, tokenizer=video, text_tokenizer=text))


def _check_steps(folder: Path) -> None:
    """Raises UserError for weights distilled to four steps, which another solver samples."""
    file = folder / "scheduler/scheduler_config.json"
    if file.is_file() and "FlowMatchEuler" in str(read_object(file).get("_class_name")):
        problem = Problem(message="the weights are distilled to four steps with fresh noise in each", file=str(file))
        raise UserError("weights of this kind cannot be sampled yet", [problem])


def _label(name: str, source: Source, taken: list[str]) -> str:
    """The folder's name, with its parent's and then a number where others have the same."""
    folder = source.folder.resolve()
    short = folder.name if Path(name).exists() else name.rpartition("/")[2]
    for label in (short, f"{folder.parent.name}-{short}"):
        if label not in taken:
            return label
    return f"{short}-{len(taken) + 1}"


def default_output(first: Source, name: str, root: Path) -> Path:
    """A new folder: ``generated/<number>`` of a run, ``generated/<name>/<number>`` of the output root otherwise."""
    own = Path(name).resolve().name
    parent = RunPaths(first.run_dir).generated if first.run_dir is not None else root / "generated" / own
    taken = [int(path.name) for path in parent.glob("*") if path.name.isdecimal()]
    return parent / f"{max(taken, default=0) + 1:03d}"
