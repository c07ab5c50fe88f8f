"""The dataset `chat`: thirty dialogs in all forms against transformers, and what a user reads of it."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from cosmos_core.data import Chat, Image, Message, ToolCall, UnreadableSample, Video
from cosmos_core.data.chat import form_of
from cosmos_core.data.video import decode_frames, write_mp4
from cosmos_core.errors import UserError
from cosmos_vlm.chat_processor import IGNORE_INDEX, ChatProcessor, TokenizedConversation
from cosmos_vlm.config import ChatConfig
from cosmos_vlm.data.chat import ChatSource
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.tokenizer import tokenizer_of
from tests.chat_oracle import template_messages, written_by_transformers
from tests.command import cosmos
from tests.tiny_reasoner import media_of, pixels_of, write_reasoner
from tests.unit.logged import logged

DIALOGS = 30
LIMITS = PixelLimits(image=(1024, 16_777_216), video=(1024, 25_165_824))
TOOLS = [{"type": "function", "function": {"name": "measure", "parameters": {"type": "object"}}}]
FORMS = ("OpenAI", "ShareGPT", "LLaVA", "ms-swift")
MARKS = {"image": "<image>", "video": "<video>"}
Plain = list[tuple[str, list[str]]]
"""Role and parts of each turn; a part that ends in .png or .mp4 is a file."""


def drawn_dialog(draw: random.Random) -> Plain:
    """Turns of a user, an assistant and perhaps a tool."""
    files = ["a.png", "b.png", "c.mp4", "d.mp4"]
    words = ["What is this?\n", " Is it <0.2 seconds> in?", "Look:", "\n\nAnd é\u0301 that", "No <b>tags</b> here"]
    turns: Plain = [("system", ["Be brief"])] if draw.random() < 0.3 else []
    for _ in range(draw.randint(1, 3)):
        parts = [draw.choice(files) for _ in range(draw.randint(0, 3))] + [draw.choice(words)]
        draw.shuffle(parts)
        turns.append(("user", parts))
        if draw.random() < 0.3:
            turns += [("assistant", ["I measure.", "CALL"]), ("tool", ["3 m"]), ("tool", ["4 m", "a.png"])]
        turns.append(("assistant", [draw.choice(["A cat.", "\nThe word <image>!", "No."])]))
    return turns


def kind_of(part: str) -> str | None:
    return {".png": "image", ".mp4": "video"}.get(part[-4:])


def row_of(turns: Plain, form: str, number: int) -> dict[str, Any]:
    """A dialog in one of the forms."""
    named = form != "OpenAI"
    speakers = {"user": "human", "assistant": "gpt", "tool": "observation"} if form in ("ShareGPT", "LLaVA") else {}
    media = {kind: [part for _, parts in turns for part in parts if kind_of(part) == kind] for kind in MARKS}
    rows: list[dict[str, Any]] = []
    for role, parts in turns:
        said = [part for part in parts if part != "CALL"]
        content: Any = "".join(MARKS.get(kind_of(part) or "", part) for part in said)
        if not named and role != "assistant":
            content = [
                {"type": kind, kind: part} if (kind := kind_of(part)) else {"type": "text", "text": part}
                for part in said
            ]
        call = {"name": "measure", "arguments": {"of": "wall"}}
        if speakers:
            rows.append({"from": speakers.get(role, role), "value": content})
            rows += [{"from": "function_call", "value": json.dumps(call)}] if "CALL" in parts else []
        else:
            calls = {"tool_calls": [{"id": "1", "type": "function", "function": call}]} if "CALL" in parts else {}
            rows.append({"role": role, "content": content, **calls})
    row: dict[str, Any] = {"id": f"{form} {number}", "conversations" if speakers else "messages": rows}
    if form == "ms-swift" and is_pairs(turns):
        texts = [message["content"] for message in row.pop("messages")]
        if turns[0][0] == "system":
            row["system"] = texts.pop(0)
        *history, (query, response) = zip(texts[::2], texts[1::2], strict=True)
        row |= {"history": history, "query": query, "response": response}
    if any("CALL" in parts for _, parts in turns):
        row["tools"] = TOOLS
    if named:
        names = ("image", "video") if form == "LLaVA" else ("images", "videos")
        row |= {name: files for name, files in zip(names, media.values(), strict=True) if files}
    return row


def is_pairs(turns: Plain) -> bool:
    """Whether there are only questions and answers, which ms-swift may write as query and response."""
    return not any(role == "tool" for role, _ in turns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty dialogs in a JSONL file, beside two images and two videos."""
    root = tmp_path_factory.mktemp("chat")
    noise = np.random.default_rng(0)
    for name, (height, width) in {"a.png": (64, 96), "b.png": (32, 128)}.items():
        PIL.Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8)).save(root / name)
    for name, count in {"c.mp4": 20, "d.mp4": 10}.items():
        write_mp4(root / name, noise.integers(0, 256, (count, 64, 64, 3), np.uint8), fps=10)
    lines = [json.dumps(row_of(plain(number), FORMS[number % 4], number)) for number in range(DIALOGS)]
    (root / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return root


def plain(number: int) -> Plain:
    return drawn_dialog(random.Random(number))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' tiny model and its tokenizer."""
    backbone = write_reasoner(tmp_path_factory.mktemp("backbone") / "tiny")
    model = Qwen3VLForConditionalGeneration.from_pretrained(backbone).eval()
    return model, tokenizer_of(backbone, model.config)


def expected_messages(turns: Plain, folder: Path) -> tuple[Message, ...]:
    """The dialog with its media read by other code."""
    media: dict[str, Image | Video] = {}
    for name in ("a.png", "b.png"):
        media[name] = Image(torch.from_numpy(np.asarray(PIL.Image.open(folder / name)).copy()).permute(2, 0, 1))
    for name, count in {"c.mp4": 20, "d.mp4": 10}.items():
        numbers = range(0, count, 5)
        frames = torch.from_numpy(decode_frames(folder / name, list(numbers))).permute(3, 0, 1, 2)
        media[name] = Video(frames, tuple(number / 10 for number in numbers))
    call = (ToolCall("measure", {"of": "wall"}),)
    return tuple(
        Message(role, tuple(media.get(part, part) for part in parts if part != "CALL"), call if "CALL" in parts else ())
        for role, parts in turns
    )


def expected_labels(text: str, messages: tuple[Message, ...], tokens: Any) -> list[int]:
    """The assistant's texts, and the end of those messages that make no call."""
    learned, place = bytearray(len(text)), 0
    for message in messages:
        if message.role == "assistant":
            header = "<|im_start|>assistant\n"
            answer = "".join(str(part) for part in message.content)
            ending = "" if message.tool_calls else "<|im_end|>"
            place = text.index(header + answer + ending, place) + len(header)
            learned[place : place + len(answer + ending)] = b"\1" * len(answer + ending)
    pairs = zip(tokens["input_ids"], tokens["offset_mapping"], strict=True)
    return [token if any(learned[start:end]) else IGNORE_INDEX for token, (start, end) in pairs]


def expected_patches(messages: tuple[Message, ...]) -> torch.Tensor:
    """Rows of transformers' image processor; of a pair of frames, those of its first and of its second frame."""
    settings = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 1024, "longest_edge": 16_777_216}, **settings)

    def rows(pixels: torch.Tensor) -> torch.Tensor:
        image = PIL.Image.fromarray(pixels.permute(1, 2, 0).numpy())
        patches: torch.Tensor = processor(image, return_tensors="pt")["pixel_values"]
        return patches.view(-1, 3, 2, 256)

    parts = []
    for part in (part for message in messages for part in message.content if not isinstance(part, str)):
        if isinstance(part, Image):
            parts.append(rows(part.pixels))
            continue
        for first, second in zip(*(part.pixels.transpose(0, 1)[start::2] for start in (0, 1)), strict=True):
            parts.append(torch.stack([rows(first)[:, :, 0], rows(second)[:, :, 1]], dim=2))
    return torch.cat(parts).reshape(-1, 1536) if parts else torch.zeros(0, 1536)


def encoded(folder: Path, number: int, oracle: Any) -> TokenizedConversation:
    source = ChatSource(ChatConfig(type="chat", path=str(folder)))
    return ChatProcessor(oracle[1], LIMITS).encode(source.get(number, np.random.default_rng(0)))


@pytest.mark.parametrize("number", range(DIALOGS))
def test_tokens_labels_positions_and_pixels_equal_transformers(folder: Path, oracle: Any, number: int) -> None:
    model, tokenizer = oracle
    messages = expected_messages(plain(number), folder)
    tools = TOOLS if any(message.tool_calls for message in messages) else None
    template = tokenizer.apply_chat_template(template_messages(messages), tools=tools, tokenize=False)
    text = written_by_transformers(template, messages)
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    dialog = encoded(folder, number, oracle)
    assert dialog.ids.tolist() == tokens["input_ids"]
    assert dialog.labels.tolist() == expected_labels(text, messages, tokens)
    torch.testing.assert_close(pixels_of(dialog), expected_patches(messages), atol=1e-6, rtol=0)
    media = media_of(model.config, dialog.ids, dialog)
    grids = {name: value for name, value in media.items() if name.endswith("_thw") or name == "mm_token_type_ids"}
    positions, _ = model.model.get_rope_index(dialog.ids[None], **grids)
    assert torch.equal(dialog.positions, positions[:, 0])


@pytest.mark.parametrize("form", FORMS)
def test_the_dialogs_of_each_form_have_all_that_a_dialog_may_have(form: str) -> None:
    dialogs = [plain(number) for number in range(DIALOGS) if FORMS[number % 4] == form]
    assert len(dialogs) >= 7
    counts = [
        {kind: sum(kind_of(part) == kind for _, parts in turns for part in parts) for kind in MARKS}
        for turns in dialogs
    ]
    assert any(count["image"] > 1 for count in counts)
    assert any(count["video"] > 1 for count in counts)
    assert any("CALL" in parts for turns in dialogs for _, parts in turns)
    later = [parts for turns in dialogs for role, parts in turns[3:] if role == "user"]
    assert any(kind_of(part) for parts in later for part in parts)
    assert any(kind_of(parts[0]) is None and any(map(kind_of, parts)) for parts in later), "media after text"
    assert any(map(is_pairs, dialogs))


def test_the_form_is_told(folder: Path) -> None:
    with logged("cosmos_vlm") as lines:
        ChatSource(ChatConfig(type="chat", path=str(folder / "rows.jsonl")))
    assert "chat: 30 rows of a local copy" in lines[0]
    assert lines[1:] == ["chat: the rows are read as OpenAI messages"]


def test_a_row_that_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    good = {"query": "x", "response": "y"}
    rows = [good, {**good, "response": ""}, {**good, "query": "<image>"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = ChatSource(ChatConfig(type="chat", path=str(tmp_path / "rows.jsonl")))
    with pytest.raises(UnreadableSample, match=r"1 \(rows.jsonl, line 2\): turn 2 is an empty answer"):
        source.get(1, np.random.default_rng(0))
    with pytest.raises(UnreadableSample, match=r"2 \(rows.jsonl, line 3\): 0 images for 1 places"):
        source.get(2, np.random.default_rng(0))


def test_media_of_a_folder_of_files_lie_beside_their_file_or_at_the_top(tmp_path: Path) -> None:
    row = {"query": "<image>x", "response": "y", "images": ["a.png"]}
    for place, grey in ((tmp_path, 10), (tmp_path / "one", 20), (tmp_path / "two", None)):
        place.mkdir(exist_ok=True)
        (place / "rows.jsonl").write_text(json.dumps(row))
        if grey is not None:
            PIL.Image.new("L", (32, 32), grey).save(place / "a.png")
    source = ChatSource(ChatConfig(type="chat", path=str(tmp_path)))
    shown = [source.get(index, np.random.default_rng(0)).messages[0].content[0] for index in range(3)]
    assert [int(image.pixels.max()) for image in shown if isinstance(image, Image)] == [20, 10, 10]
    assert source.dimensions(0) is not None


def test_one_row_of_one_file_is_counted_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"query": "x", "response": "y"}))
    with logged("cosmos_vlm") as lines:
        ChatSource(ChatConfig(type="chat", path=str(tmp_path / "rows.jsonl")))
    assert lines[0].startswith("chat: 1 row of ")
    assert lines[0].endswith(" in 1 file")


def test_a_plan_counts_each_picture_of_a_dialog(tmp_path: Path) -> None:
    row = {"query": "<image><image>Which is redder?", "response": "The second.", "images": ["a.png", "a.png"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    PIL.Image.new("RGB", (200, 150)).save(tmp_path / "a.png")
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        'extends = "llava_ov_packed"\nunset = ["dataloader_train.dataset"]\n'
        f'[dataloader_train.dataset]\ntype = "chat"\npath = "{tmp_path}/rows.jsonl"\n'
    )
    assert "a usual sample: 2 pictures of 200x150: 140 visual and " in cosmos("plan", str(recipe)).stdout


def examples() -> list[str]:
    """The rows that the documentation shows, one of each form."""
    page = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    section = page.partition("## Dialogs\n")[2].partition("\n## ")[0]
    return re.findall(r"```json\n(.*?)\n```", section, re.DOTALL)


def test_the_documented_rows_can_be_learned(folder: Path, oracle: Any, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data/rows.jsonl").write_text("\n".join(examples()))
    source = ChatSource(ChatConfig(type="chat", path=str(tmp_path / "data")))
    processor = ChatProcessor(oracle[1], LIMITS)
    prepared = [processor.encode(source.get(index, np.random.default_rng(0))) for index in range(len(source))]
    assert [form_of(json.loads(row)).split()[0] for row in examples()] == ["OpenAI", "ShareGPT", "LLaVA", "ms-swift"]
    assert [dialog.reference for dialog in prepared] == ["A cat.", "The first.", "A cat.", "It falls."]
    assert [len(dialog.grids) for dialog in prepared] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"id": "1", "text": "x"}', "rows.jsonl, line 1: there is no field messages, conversations or response"),
        ('{"query": "é", "response": "y"}'.encode("latin-1"), "byte 0xe9"),
        (b"", "no rows"),
    ],
)
def test_rows_of_something_else_are_refused_at_the_start(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(data)
    with pytest.raises(UserError) as refused:
        ChatSource(ChatConfig(type="chat", path=str(tmp_path / "rows.jsonl")))
    assert message in "\n".join([refused.value.title, *(problem.message for problem in refused.value.problems)])


def test_a_table_with_embedded_images_gives_the_same_dialogs(folder: Path, tmp_path: Path) -> None:
    """A Parquet table has every column in every row and every field in every part."""
    image = {"bytes": (folder / "a.png").read_bytes(), "path": "a.png"}
    texts = [{"type": "text", "text": "What?"}, {"type": "image", "text": None}]
    rows = [
        {"id": 1, "messages": [{"role": "user", "content": texts}], "images": [image]},
        {"id": 2, "messages": [{"role": "user", "content": texts[:1]}], "images": None},
    ]
    for row in rows:
        row["messages"].append({"role": "assistant", "content": [{"type": "text", "text": "3"}]})  # type: ignore[attr-defined]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    source = ChatSource(ChatConfig(type="chat", path=str(tmp_path)))
    first, second = (source.get(index, np.random.default_rng(0)) for index in (0, 1))
    assert isinstance(first.messages[0].content[1], Image)
    assert first.messages[0].content[1].pixels.shape == (3, 64, 96)
    assert second == Chat("2", (Message("user", ("What?",)), Message("assistant", ("3",))))


def test_the_documented_recipe_trains_on_the_documented_rows(folder: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    [recipe] = re.findall(r"```toml\n(extends = .*?)\n```", page.partition("## Dialogs\n")[2], re.DOTALL)[:1]
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data/rows.jsonl").write_text("\n".join(examples()))
    (tmp_path / "own.toml").write_text(recipe.replace("/data/dialogs", str(tmp_path / "data")))
    small = (
        *("model.backbone.model_name=tiny", "model.init=random", "checkpoint.load_path=null"),
        *("trainer.max_iter=2", "trainer.run_validation=false", "dataloader_train.num_workers=0"),
        *("scheduler.cycle_lengths=[2]", "scheduler.warm_up_steps=[0]", "model.precision=float32"),
    )
    done = cosmos("run", str(tmp_path / "own.toml"), "--output-root", str(tmp_path / "runs"), *small)
    assert "done at step 2/2" in done.stderr


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_file_that_lost_rows_during_a_run_is_named(tmp_path: Path, ending: str) -> None:
    """Of many files the first ones are read again; a worker would fall over a row that is gone."""
    rows = [{"messages": [{"role": role, "content": "a"} for role in ("user", "assistant")]}] * 2

    def write(file: Path, content: list[dict[str, Any]]) -> None:
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(content), file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in content))

    for number in range(40):
        write(tmp_path / f"{number:02}.{ending}", rows)
    source = ChatSource(ChatConfig(type="chat", path=str(tmp_path)))
    for number in range(30):
        write(tmp_path / f"{number:02}.{ending}", rows[:1])
    with pytest.raises(UserError, match="changed while it was used") as error:
        source.get(3, np.random.default_rng(0))
    assert error.value.problems[0].file == str(tmp_path / f"01.{ending}")
