"""What this distribution offers to cosmos: the reasoner family `vlm`, the datasets `llava_ov` and `chat`."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import isdir, isfile
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from cosmos_core.errors import UserError, as_problems
from cosmos_core.plugin import (
    CheckpointSpec,
    CommandSpec,
    ConverterSpec,
    DataPath,
    DatasetSpec,
    ModelFamilySpec,
    Problem,
    hookimpl,
)
from cosmos_core.strict_json import read_object

if TYPE_CHECKING:
    from cosmos_core.plan import RunPlan
    from cosmos_vlm.config import Backbone, RowsConfig

__all__ = ["COSMOS_API"]

COSMOS_API = 1

FORMAT = "qwen3_vl"
"""What a Hugging Face folder's config.json calls this model."""
_DIALOG = {"messages", "conversations", "response"}
"""Fields of which each row of dialogs has one."""


@hookimpl
def cosmos_model_families() -> Iterable[ModelFamilySpec]:
    """The reasoner."""
    yield ModelFamilySpec(
        name="vlm",
        summary="Cosmos 3 reasoner: dialogs over images and video (Qwen3-VL)",
        config="cosmos_vlm.config:VlmConfig",
        family="cosmos_vlm.family:VlmFamily",
        accepts=("chat",),
        reads=(FORMAT,),
        overlong=("error", "skip", "resize", "truncate_answer"),
    )


@hookimpl
def cosmos_datasets() -> Iterable[DatasetSpec]:
    """Images and conversations, and dialogs in the usual forms."""
    yield DatasetSpec(
        name="llava_ov",
        summary="LLaVA-OneVision conversations about images",
        config="cosmos_vlm.config:LlavaConfig",
        source="cosmos_vlm.data.llava_onevision:LlavaSource",
        yields="chat",
    )
    yield DatasetSpec(
        name="chat",
        summary="Your own dialogs with images and videos: OpenAI, ShareGPT, LLaVA or ms-swift rows",
        config="cosmos_vlm.config:ChatConfig",
        source="cosmos_vlm.data.chat:ChatSource",
        yields="chat",
        carried=("target_fps", "max_frames"),
    )


@hookimpl
def cosmos_checkpoints() -> Iterable[CheckpointSpec]:
    """Backbones, and the released reasoners."""
    from cosmos_vlm.catalog import PINNED

    for repository, revision in PINNED.items():
        name = repository.partition("/")[2]
        yield CheckpointSpec(name=name, summary="Reasoner, Qwen3-VL", repo=repository, revision=revision)


@hookimpl
def cosmos_commands() -> Iterable[CommandSpec]:
    """Conversations with a reasoner."""
    yield CommandSpec(
        path=("chat",), summary="Talk with a reasoner", command="cosmos_vlm.commands.chat:chat", group="models"
    )


@hookimpl
def cosmos_converters() -> Iterable[ConverterSpec]:
    """A Cosmos language model on a Qwen3-VL tower, and a trained reasoner to a Hugging Face folder."""
    module = "cosmos_vlm.checkpoints.converters"
    yield ConverterSpec(
        source="cosmos3",
        target="vlm",
        task="vlm",
        summary="Generator's reasoner to Qwen3-VL",
        convert=f"{module}:merge",
    )
    yield ConverterSpec(
        source="dcp",
        target="hf",
        task="vlm",
        summary="Checkpoint to transformers",
        convert=f"{module}:export",
        describe="cosmos_vlm.checkpoints.describe:describe",
    )


@hookimpl
def cosmos_identify_checkpoint(path: Path) -> str | None:
    """A reasoner as transformers loads it, or adapters of one for peft."""
    if (path / "adapter_config.json").is_file():
        return "adapters"
    try:
        config = read_object(path / "config.json")
    except UserError:
        return None
    return FORMAT if config.get("model_type") == FORMAT else None


@hookimpl
def cosmos_identify_data(path: Path) -> DataPath | None:
    """A file of dialogs, or a folder with one."""
    from cosmos_core.data.files import files_below, followed
    from cosmos_core.data.first_row import ROW_FILES, first_fields

    files = [path] if path.is_file() else files_below(path)
    tables = (file for file in files if file.suffix.lower() in ROW_FILES)
    rows = next((file for file in tables if _DIALOG & first_fields(file)), None)
    if rows is None:
        return None
    sets = dict.fromkeys(("repo", "revision", "subset", "split", "limit"))
    return DataPath(
        dataset={"type": "chat", "path": str(followed(path)), **sets},
        recipe="llava_ov",
        stand_ins={"model.backbone.model_name": "tiny"},
        note="texts have more tokens here than with a model's tokenizer, since the one in this package knows few words",
    )


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """Settings this version does not support, and missing folders."""
    from importlib.util import find_spec

    from cosmos_vlm.config import RowsConfig, VlmConfig

    model = plan.config.model
    if isinstance(model, VlmConfig):
        if plan.degrees.context > 1:
            key = "model.parallelism.context_parallel_shard_degree"
            yield Problem(message="the reasoner does not split sequences", key=key, hint="set it to 1")
        if model.attn_implementation == "flash_attention_2" and find_spec("flash_attn") is None:
            hint = "pip install flash-attn, or set it to 'cosmos'"
            yield Problem(message="needs the package flash_attn", key="model.attn_implementation", hint=hint)
        if model.attn_implementation == "flash_attention_2" and plan.config.trainer.deterministic:
            message = "the backward pass of 'flash_attention_2' does not repeat to the last bit"
            hint = "set it to 'cosmos', or trainer.deterministic=false"
            yield Problem(message=message, key="model.attn_implementation", hint=hint)
        if model.ema.enabled:
            yield Problem(message="the reasoner keeps no average", key="model.ema.enabled", hint="set it to false")
        yield from _backbone(model.backbone, loaded=plan.weights.kind == "pretrained")
    for key, dataset in plan.config.datasets.items():
        if isinstance(dataset, RowsConfig):
            yield from _rows(dataset, f"{key}.path")


def _backbone(backbone: Backbone, *, loaded: bool) -> Iterable[Problem]:
    """Folders that are not there, or no model's; Hub names are looked up when the run starts.

    loaded: whether the run starts from the backbone's weights.
    """
    from cosmos_vlm.catalog import PINNED, REASONERS, TINY, is_local
    from cosmos_vlm.tokenizer import lacking_configs

    name, key = backbone.model_name, "model.backbone.model_name"
    for file in lacking_configs(Path(name)) if isdir(name) else ():
        if file != "tokenizer_config.json":  # Without it a tokenizer has its defaults.
            yield Problem(message=f"{name} has no {file}", key=key, hint="give the folder of a Qwen3-VL model")
    source = backbone.safetensors_path or name
    if loaded and (source == TINY or (isdir(source) and not any(Path(source).glob("*.safetensors")))):
        hint = "give a folder with *.safetensors, or train from fresh weights: model.init=random"
        where = key if source == name else "model.backbone.safetensors_path"
        yield Problem(message=f"{source} has no weights", key=where, hint=hint)
    if is_local(name) and not isdir(name):
        published = [repository.partition("/")[2] for repository in PINNED]
        same = next((known for known in published if known == Path(name).name), published[0])
        command = join(("cosmos", "checkpoints", "fetch", same, "-o", name))
        yield Problem(message=f"no such folder: {name}", key=key, hint=f"`{command}` fetches one; or give a Hub name")
    weights = backbone.safetensors_path
    if weights is not None and is_local(weights) and not isdir(weights):
        hint = "give a folder with *.safetensors, or a Hub name"
        if generator := REASONERS.get(name.partition("@")[0]):
            command = join(("cosmos", "convert", generator, "-o", weights, "--to", "vlm"))
            hint = f"`{command}` makes it; or {hint}"
        yield Problem(message=f"no such folder: {weights}", key="model.backbone.safetensors_path", hint=hint)


def _rows(dataset: RowsConfig, key: str) -> Iterable[Problem]:
    """A local copy that cannot be read, or a dataset that is nowhere."""
    from cosmos_vlm.config import ChatConfig
    from cosmos_vlm.data.local import local_copy

    path, takes_files = dataset.path, isinstance(dataset, ChatConfig)
    if path is None and dataset.repo is None:
        hint = "give the folder or file with the dialogs, or a dataset's name on the Hub as repo"
        yield Problem(message="there is neither a path nor a repo", key=key, hint=hint)
    elif path is not None and not (isdir(path) or (takes_files and isfile(path))):
        message = f"{path} is a file" if isfile(path) else f"no such folder: {path}"
        folder = f"{Path(path).absolute().parent}, where it lies" if isfile(path) else "with the Parquet or JSON files"
        hint = f"give the folder {folder}" + ("" if dataset.repo is None else f"; `{key}=null` reads the Hub")
        yield Problem(message=message, key=key, hint=hint)
    elif path is not None:
        try:
            local_copy(path, dataset.subset)
        except UserError as error:
            yield from as_problems(error, key)
