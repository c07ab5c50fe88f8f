"""Files of a backbone with values that no model has: one error that names file and key, before anything is built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import cosmos_vlm
from cosmos_core.data import Chat, Message, UnreadableSample
from cosmos_core.errors import UserError
from cosmos_vlm.architecture import architecture_of
from cosmos_vlm.chat_processor import ChatProcessor
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.processor_files import PixelLimits, pixel_limits
from cosmos_vlm.tokenizer import tokenizer_of

TINY = Path(cosmos_vlm.__file__).parent / "backbones/tiny"


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


def change(file: Path, value: Any, *keys: str) -> None:
    content = table = json.loads(file.read_text())
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(("text_config", "num_hidden_layers", value) for value in (0, -1, 10**9, 10**400, "4", [4], True, None, 1.5)),
        *(("text_config", "hidden_size", value) for value in (0, -64, 2**40, 63)),
        ("text_config", "num_key_value_heads", 3),
        ("text_config", "head_dim", 0),
        ("text_config", "hidden_act", "qwen3_vl"),
        ("text_config", "rms_norm_eps", -1.0),
        ("text_config", "attention_dropout", 2.0),
        *(("vision_config", "depth", value) for value in (0, 10**9, "2")),
        ("vision_config", "patch_size", 14),
        ("vision_config", "in_channels", 0),
        ("vision_config", "num_position_embeddings", 15),
        *(("vision_config", "deepstack_visual_indexes", value) for value in ([-1], [99], "0")),
    ],
)
def test_sizes_that_no_network_has_are_refused(backbone: Path, section: str, key: str, value: Any) -> None:
    change(backbone / "config.json", value, section, key)
    with pytest.raises(UserError) as refused:
        architecture_of(backbone)
    assert all(problem.file == str(backbone / "config.json") for problem in refused.value.problems)
    assert any(key in problem.message for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rope_theta", "x"), ("rope_theta", 0), ("rope_type", "nope"), ("mrope_section", [1]), ("mrope_section", "x")],
)
def test_frequencies_that_cannot_be_computed_are_refused(backbone: Path, key: str, value: Any) -> None:
    change(backbone / "config.json", value, "text_config", "rope_parameters", key)
    with pytest.raises(UserError) as refused:
        architecture_of(backbone)
    assert refused.value.problems


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer_config.json", '{"model_max_length": "x", "tokenizer_class": 3}'),
        ("tokenizer_config.json", '{"pad_token": [1]}'),
        ("chat_template.jinja", "{% for m in %}"),
        ("chat_template.jinja", "{{ 1 / 0 }}"),
        ("chat_template.jinja", "{{ messages + 1 }}"),
        ("config.json", "[]"),
    ],
)
def test_a_tokenizer_of_wrong_types_is_one_error(backbone: Path, file: str, content: str) -> None:
    architecture = architecture_of(TINY)
    (backbone / file).write_text(content)
    with pytest.raises(UserError, match="the backbone's tokenizer cannot be used"):
        tokenizer_of(backbone, architecture)


def test_a_template_that_fails_for_one_dialog_makes_it_unreadable(backbone: Path) -> None:
    (backbone / "chat_template.jinja").write_text("{% if messages|length > 1 %}{{ messages + 1 }}{% endif %}")
    processor = ChatProcessor(tokenizer_of(backbone, architecture_of(TINY)), PixelLimits())
    with pytest.raises(UnreadableSample, match="refuses the dialog"):
        processor.encode(Chat("a", (Message("user", ("hi",)), Message("assistant", ("yes",)))))


@pytest.mark.parametrize("limits", [(-1, 100), (0, 100), (200, 100), (1, 10**400), (True, 0)])
def test_limits_of_pixels_that_are_no_range_are_refused(backbone: Path, limits: tuple[int, int]) -> None:
    (backbone / "preprocessor_config.json").write_text(json.dumps({"min_pixels": limits[0], "max_pixels": limits[1]}))
    with pytest.raises(UserError) as refused:
        pixel_limits(VlmConfig(), backbone)
    assert refused.value.problems[0].file == str(backbone / "preprocessor_config.json")
