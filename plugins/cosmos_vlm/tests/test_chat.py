"""`cosmos chat`: a run says what its export says, alone or in a batch; files are continued; bad input is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cosmos_core.errors import UserError
from cosmos_vlm.chat.conversation import Clips
from cosmos_vlm.chat.rows import Job, answer_rows, read_rows
from cosmos_vlm.chat.settings import Settings
from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

SHORT = (
    "trainer.max_iter=2",
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[0]",
    "dataloader_train.max_samples_per_batch=2",
    "model.init=pretrained",
    "model.video_min_pixels=1024",
    "model.precision=float32",
    "optimizer.lr=0.01",
)
FEW = ("--max-tokens", "6")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published reasoner, a run that trained adapters on it, the run's exports, a picture and a clip."""
    root = tmp_path_factory.mktemp("chat")
    write_reasoner(root / "published")
    write_physics(root / "physics", train=4, val=1)
    adapters = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "model.ema.enabled=false")
    command = ("run", "videophy2_demo", "--output-root", str(root), "job.name=tuned", *SHORT, *adapters)
    backbone = f"model.backbone.model_name={root / 'published'}"
    cosmos(*command, backbone, env={"VIDEOPHYSICS_ROOT": str(root / "physics")})
    cosmos("export", str(run_of(root)), "-o", str(root / "export"))
    cosmos("export", str(run_of(root)), "-o", str(root / "adapter"), "--adapter")
    Image.effect_noise((64, 96), 90).convert("RGB").save(root / "picture.png")
    shutil.copy(next((root / "physics").rglob("*.mp4")), root / "clip.mp4")
    rows = [
        {"prompt": "What is it?", "image": "picture.png"},
        {"id": "clip", "prompt": "What happens, in a few more words?", "video": "clip.mp4"},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]},
        {
            "messages": [{"role": "user", "content": "<video>Then?<image>"}, {"role": "assistant", "content": "Yes."}],
            "videos": ["clip.mp4"],
            "images": [str(root / "picture.png")],
        },
    ]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def run_of(place: Path) -> Path:
    return place / "cosmos3/sft/tuned"


def answered(place: Path, source: Path, output: Path, *options: str) -> list[dict[str, object]]:
    cosmos("chat", str(source), "--input", str(place / "prompts.jsonl"), "-o", str(output), *FEW, *options)
    return [json.loads(line) for line in output.read_text().splitlines()]


def said(place: Path, *arguments: str, code: int = 0) -> str:
    """What was printed, to stderr where the command is to fail."""
    done = cosmos("chat", *arguments, code=code, cwd=place)
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_run_its_checkpoint_its_export_and_its_adapter_give_the_same_answers(place: Path, tmp_path: Path) -> None:
    """To texts, an image, a video and both; in a batch, whose prompts differ in length, and one by one."""
    run = answered(place, run_of(place), tmp_path / "run.jsonl")
    assert [(record["line"], record["id"]) for record in run] == [(1, "1"), (2, "clip"), (3, "3"), (4, "4")]
    assert run[3]["reference"] == "Yes."
    assert all(record["answer"] for record in run)
    assert answered(place, place / "export", tmp_path / "export.jsonl", "--batch", "1") == run
    checkpoint = run_of(place) / "checkpoints/iter_000000002"
    assert answered(place, checkpoint, tmp_path / "checkpoint.jsonl", "--batch", "2") == run
    adapter = ("--adapter", str(place / "adapter"), "--compare", str(place / "export"))
    both = answered(place, place / "published", tmp_path / "adapter.jsonl", *adapter)
    for record, alone in zip(both, run, strict=True):
        assert list(record["answers"].values()) == [{"answer": alone["answer"]}] * 2  # type: ignore[attr-defined]
    without = answered(place, place / "published", tmp_path / "without.jsonl", "--adapter", f"{place / 'adapter'}@0")
    assert without == answered(place, place / "published", tmp_path / "published.jsonl")
    assert without != run


def test_one_prompt_is_answered_as_the_row_of_a_file(place: Path, tmp_path: Path) -> None:
    rows = answered(place, place / "export", tmp_path / "rows.jsonl")
    words = said(place, "export", "--image", "picture.png", "--prompt", "What is it?", *FEW)
    assert words.strip() == rows[0]["answer"]
    compared = said(
        place, "export", "--prompt", "What is it?", "--compare", "published", "--image", "picture.png", *FEW
    )
    assert compared.startswith(f"[export]\n{words}[published]\n")


def test_a_second_call_answers_what_is_left(place: Path, tmp_path: Path) -> None:
    whole = answered(place, place / "export", tmp_path / "whole.jsonl", "--batch", "1")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text(lines[1] + lines[0][:9])
    again = answered(place, place / "export", tmp_path / "part.jsonl", "--batch", "1")
    assert again == [whole[1], whole[0], *whole[2:]]
    (tmp_path / "other.jsonl").write_text('{"line": 1, "id": "another"}\n')
    command = ("export", "--input", "prompts.jsonl", "-o", str(tmp_path / "other.jsonl"))
    assert "other.jsonl:1" in said(place, *command, code=2)


@pytest.mark.parametrize(
    ("name", "held", "message"),
    [("notes.txt", "one line", "is no answer"), ("nowhere.jsonl", None, "No such file"), ("loop", None, "symbolic")],
)
def test_an_output_that_cannot_be_continued_is_left_as_it_is(
    name: str, held: str | None, message: str, tmp_path: Path
) -> None:
    output = tmp_path / name
    if held is None:
        output.symlink_to("loop" if name == "loop" else "missing/answers.jsonl")
    else:
        output.write_text(held)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n')
    source = tmp_path / "prompts.jsonl"
    job = Job(source=source, output=output, models=[], settings=Settings(), clips=Clips(2.0, 4), batch=1)
    with pytest.raises(UserError) as refused:
        answer_rows(job, read_rows(source))
    assert message in refused.value.problems[0].message
    assert held is None or output.read_text() == held


def test_an_output_that_is_no_file_is_never_read(tmp_path: Path) -> None:
    """It may never end."""
    (tmp_path / "prompts.jsonl").write_text('{"query": "a"}\n')
    rows, output = read_rows(tmp_path / "prompts.jsonl"), tmp_path / "pipe"
    assert not rows[0].reference
    os.mkfifo(output)
    job = Job(source=output, output=output, models=[], settings=Settings(), clips=Clips(2.0, 4), batch=1)
    with pytest.raises(UserError, match="nothing was answered") as refused:
        answer_rows(job, rows)
    assert refused.value.problems[0].message == "is no file"


def test_sampling_repeats_with_its_seed_and_the_request_to_reason_changes_the_prompt(place: Path) -> None:
    def sampled(*options: str) -> str:
        return said(place, "export", "--prompt", "Hello", "--max-tokens", "12", "--preset", "guide", *options)

    assert sampled() == sampled() != sampled("--seed", "5")
    assert sampled("--reasoning") != sampled()


def test_a_conversation_has_a_history_media_and_commands(place: Path) -> None:
    lines = "/image picture.png\nWhat is it?\nAnd now?\n/image none.png\n/image ~no-user/a.png\n/reset\n"
    lines += "And now?\n/dance\n/quit\nnot read\n"
    done = talk(place, lines)
    first, *_ = said(place, "export", "--image", "picture.png", "--prompt", "What is it?", *FEW).splitlines()
    alone = said(place, "export", "--prompt", "And now?", *FEW)
    assert done[0].startswith(first)
    assert done[0].endswith(alone)
    assert done[0].count(alone) == 1
    assert "none.png  image file is missing" in done[1]
    assert "~no-user/a.png  image file is missing" in done[1]
    assert "/dance is no command" in done[1]


def talk(place: Path, lines: str) -> tuple[str, str]:
    """What a conversation printed to both streams."""
    command = (sys.executable, "-m", "cosmos_core", "chat", "export", *FEW)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def bad_inputs(place: Path, folder: Path) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Arguments, and words of the message."""
    (folder / "empty").mkdir()
    yield (str(folder / "empty"), "--prompt", "a"), ("is no run, checkpoint, base, export or published folder",)
    yield ("Cosmos3-Nano-Reasonr", "--prompt", "a"), ("did you mean 'Cosmos3-Nano-Reasoner'?",)
    yield ("adapter", "--prompt", "a"), ("adapters alone",)
    generator = folder / "generator/cosmos3/sft/hello"
    cosmos("run", "hello", "--output-root", str(folder / "generator"), "trainer.max_iter=1")
    yield (str(generator), "--prompt", "a"), ("only a reasoner can chat", "cosmos convert GENERATOR -o DIR --to vlm")
    shutil.copytree(place / "export", folder / "bare")
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (folder / "bare" / name).unlink()
    fetched = (
        "has no tokenizer.json",
        "has no preprocessor_config.json",
        "`hf download Qwen/Qwen3-VL-2B-Instruct token",
    )
    yield (str(folder / "bare"), "--prompt", "a"), fetched
    (folder / "broken.png").write_bytes(b"no picture")
    yield ("export", "--image", str(folder / "broken.png"), "--prompt", "a"), ("broken.png  image cannot be read",)
    write_reasoner(folder / "other", seed=1)
    yield ("published", "--adapter", "export", "--prompt", "a"), ("there is no adapter_config.json",)
    yield (str(folder / "other"), "--adapter", "adapter", "--prompt", "a"), ("the adapter belongs to other weights",)
    yield ("published", "--adapter", "adapter@x", "--prompt", "a"), ("x is no number",)
    yield ("export", "--prompt", "a", "--top-p", "0.9"), ("--top-p has no effect at temperature 0",)
    yield ("export", "--prompt", "a", "--temperature", "nan"), ("--temperature: is nan, which is no finite number",)
    yield ("export", "--prompt", "a", "--device", "tpu"), ("there is no device 'tpu'", "such as cpu")
    yield ("export", "--input", "prompts.jsonl"), ("--input and -o go together",)
    rows = '{"prompt": "a"}\n{"prompt": 3}\n\n{"prompt"\n{"prompt": "<image>"}\n[]\n'
    (folder / "wrong.jsonl").write_text(rows + '{"conversations": [{"from": "gpt", "value": "Hi"}]}\n')
    lines = (
        "wrong.jsonl:2  the prompt is no text",
        "wrong.jsonl:4  is not JSON",
        "wrong.jsonl:5  0 images for 1 places",
    )
    wrong = ("export", "--input", str(folder / "wrong.jsonl"), "-o", str(folder / "none.jsonl"))
    yield wrong, (*lines, "wrong.jsonl:6  is not an object", "wrong.jsonl:7  there is nothing before the answer")


def test_bad_input_is_told_with_what_to_do(place: Path, tmp_path: Path) -> None:
    for arguments, words in bad_inputs(place, tmp_path):
        message = said(place, *arguments, code=2)
        assert all(word in message for word in words), message


def test_rows_with_bad_media_are_named_and_the_others_answered(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "picture.png", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [{"prompt": "a", "image": name} for name in ("picture.png", "broken.png", "none.png")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("export", "--input", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out.jsonl"), *FEW)
    message = said(place, *command, code=2)
    assert "2 of 3 prompts cannot be answered" in message
    assert f"rows.jsonl:2  {tmp_path / 'broken.png'}: image cannot be read" in message
    assert f"rows.jsonl:3  {tmp_path / 'none.png'}: image file is missing" in message
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    shutil.copy(place / "picture.png", tmp_path / "broken.png")
    shutil.copy(place / "picture.png", tmp_path / "none.png")
    said(place, *command)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


def test_without_a_network_a_published_name_says_so(place: Path, tmp_path: Path) -> None:
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = cosmos("chat", "Cosmos3-Nano-Reasoner", "--prompt", "a", env=unreachable, code=2)
    assert "'Cosmos3-Nano-Reasoner' cannot be fetched" in done.stderr
    assert "check the network" in done.stderr
    assert "Traceback" not in done.stderr
