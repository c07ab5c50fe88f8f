"""What generation does by rule: sizes, sentences, crops, noise, schedule, files of prompts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import _preprocess_conditioning_image
from PIL import Image

from cosmos_core.errors import UserError
from cosmos_vfm.config import Sampling
from cosmos_vfm.generate import clips
from cosmos_vfm.generate.canvas import ASPECTS, RESOLUTIONS, aspect_of, nearest_frames, parse_size
from cosmos_vfm.generate.clips import Settings, plan_clips
from cosmos_vfm.generate.contact_sheet import Row as SheetRow
from cosmos_vfm.generate.contact_sheet import font_for, wrapped, write_contact_sheet
from cosmos_vfm.generate.defaults import NEGATIVE, defaults_of
from cosmos_vfm.generate.media import cover, cover_and_crop
from cosmos_vfm.generate.page import Cell, PageRow, write_page
from cosmos_vfm.generate.prompt_file import Row, read_prompts
from cosmos_vfm.generate.prompts import Facts, negative_text, prompt_text
from cosmos_vfm.network.patches import grid
from cosmos_vfm.sampling import build_solver, solver_sums
from cosmos_vfm.tokenizer.video import latent_shape

CPU = torch.device("cpu")
VIDEO = Facts(189, 720, 1280, 24.0)


@pytest.mark.parametrize(
    ("shift", "steps", "first", "last", "timesteps"),
    [
        (3, 35, (0.999666, 0.989955, 0.979858, 0.969354), (0.219325, 0.153708, 0.081004), (999, 989, 979, 153, 81)),
        (5, 35, (0.999800, 0.993948, 0.987817, 0.981384), (0.318911, 0.232369, 0.128090), (999, 993, 987, 232, 128)),
        (10, 35, (0.999900, 0.996965, 0.993871), (0.483598, 0.377109, 0.227092), (999, 996, 993, 377, 227)),
        (3, 50, (0.999666, 0.992907, 0.985963), (0.160571, 0.111008, 0.057637), (999, 992, 985, 111, 57)),
        (5, 4, (0.999800, 0.937265), (0.833055, 0.624687), (999, 937, 833, 833, 624)),
    ],
)
def test_sigmas_and_timesteps_of_the_native_schedule(
    shift: float, steps: int, first: tuple[float, ...], last: tuple[float, ...], timesteps: tuple[int, ...]
) -> None:
    solver = build_solver(steps, shift)
    sigmas = solver.sigmas.tolist()
    assert sigmas[: len(first)] == pytest.approx(first, abs=1.1e-6)
    assert sigmas[-1 - len(last) :] == pytest.approx([*last, 0.0], abs=1.1e-6)
    seen = solver.timesteps.tolist()
    assert (*seen[:3], *seen[-2:]) == timesteps
    assert len(seen) == steps


@pytest.mark.parametrize(
    ("shift", "steps", "expected"),
    [
        (10, 35, (0.222244, -0.682505)),
        (3, 50, (0.246833, -0.663218)),
        (5, 35, (0.242543, -0.666553)),
        (5, 4, (-0.020573, -0.873260)),
        (3, 900, (0.246437, -0.663512)),  # The first two timesteps are one whole number.
    ],
)
def test_the_solver_follows_a_known_velocity(shift: float, steps: int, expected: tuple[float, float]) -> None:
    timesteps, sums = solver_sums(steps, shift)
    x = torch.tensor([1.0, -0.5])
    known = [x]
    for timestep, weights in zip(timesteps, sums, strict=True):
        known.append(0.5 * x + timestep / 1000)
        x = weights[: len(known)] @ torch.stack(known)
    assert x.tolist() == pytest.approx(expected, abs=2e-6)


def test_prompts_say_what_the_base_models_read() -> None:
    sentences = "The video is 7.9 seconds long and is of 24 FPS. This video is of 720x1280 resolution."
    assert prompt_text("A cat runs.", VIDEO, escape=True) == f"A cat runs. {sentences}"
    picture = Facts(1, 960, 960, 24.0)
    assert prompt_text("A cat", picture, escape=True) == "A cat. This image is of 960x960 resolution."
    assert negative_text("", picture) == "This image is of 960x960 resolution."
    assert negative_text(NEGATIVE, VIDEO) == f"{NEGATIVE}. {sentences}"
    assert prompt_text("[1, 2]", VIDEO, escape=True).startswith("[1, 2]. The video")


def test_structured_prompts_get_keys_in_their_place() -> None:
    caption = '{"subjects": [{"description": "café"}], "fps": 30, "duration": "3s"}'
    assert prompt_text(caption, VIDEO, escape=True) == (
        '{"subjects": [{"description": "caf\\u00e9"}], "fps": 24.0, "duration": "7s", '
        '"resolution": {"H": 720, "W": 1280}, "aspect_ratio": "16,9"}'
    )
    assert "café" in prompt_text(caption, VIDEO, escape=False)
    picture = json.loads(prompt_text(caption, Facts(1, 960, 960, 24.0), escape=True))
    assert picture.keys() == {"subjects", "resolution", "aspect_ratio"}
    assert [json.loads(prompt_text("{}", Facts(n, 256, 256, 24.0), escape=True))["duration"] for n in (121, 93)] == [
        "5s",
        "3s",
    ]


def test_sizes_are_those_of_the_base_models() -> None:
    tokens = {
        key: [grid(*latent_shape(1, height, width)[1:]) for width, height in sizes]
        for key, sizes in RESOLUTIONS.items()
    }
    products = {key: [rows * columns for rows, columns in grids] for key, grids in tokens.items()}
    assert products["256"] == [64, 80, 80, 60, 60]
    assert products["480"] == [400, 391, 391, 390, 390]
    assert products["720"] == [900, 910, 910, 920, 920]
    assert products["768"] == [1024, 1036, 1036, 1032, 1032]
    assert all(
        aspect_of(*size) == aspect
        for sizes in RESOLUTIONS.values()
        for aspect, size in zip(ASPECTS, sizes, strict=True)
    )
    assert parse_size("480", "9,16") == (480, 832)
    assert parse_size("832x480", "1,1") == (832, 480)
    with pytest.raises(ValueError, match="nearest that fits is 848x480"):
        parse_size("850x480", "1,1")
    assert [nearest_frames(n) for n in (1, 2, 24, 100, 189)] == [(1,), (1, 5), (21, 25), (97, 101), (189,)]


@pytest.mark.parametrize(
    ("source", "target", "scaled"),
    [
        ((640, 480), (832, 480), (832, 624)),
        ((1920, 1080), (320, 192), (342, 192)),
        ((500, 500), (1280, 720), (1280, 1280)),
        ((150, 90), (64, 64), (107, 64)),
    ],
)
def test_crops_are_the_pipelines(source: tuple[int, int], target: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert cover(*source, target) == scaled
    pixels = np.random.RandomState(0).randint(0, 256, (source[1], source[0], 3), dtype=np.uint8)
    theirs = _preprocess_conditioning_image(Image.fromarray(pixels), height=target[1], width=target[0])
    ours = cover_and_crop(torch.from_numpy(pixels).permute(2, 0, 1)[:, None].float(), *target).round().clamp(0, 255)
    assert torch.allclose(ours[:, 0] / 127.5 - 1, theirs[0], atol=1e-6)


def test_defaults_by_model_and_mode() -> None:
    nano, picture = (defaults_of("nano", Sampling(), image=image) for image in (False, True))
    assert (nano.steps, nano.guidance, nano.shift, nano.frames, nano.size) == (35, 6.0, 10.0, 189, "720")
    assert (picture.steps, picture.guidance, picture.shift, picture.aspect) == (50, 4.0, 3.0, "1,1")
    assert nano.negative == NEGATIVE
    assert not picture.negative
    edge = defaults_of("edge", Sampling(), image=False)
    assert (edge.steps, edge.guidance, edge.shift, edge.frames, edge.size) == (50, 5.0, 3.0, 121, "480")
    tuned = defaults_of("nano", Sampling(shift=3.0), image=False)
    assert (tuned.steps, tuned.shift) == (35, 3.0)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults() -> None:
    rows = [Row(prompt="a", size="480", frames=93, seed=7, fps=16.0), Row(prompt="b")]
    first, second = plan_clips(rows, Settings(), tier="nano", sampling=Sampling())
    assert (first.width, first.height, first.frames, first.fps, first.seed) == (832, 480, 93, 16.0, 7)
    assert (second.width, second.height, second.frames, second.seed) == (1280, 720, 189, 1)
    both = plan_clips(rows, Settings(frames=5, seed=3, guidance=1.0, aspect="9:16"), tier="nano", sampling=Sampling())
    assert [(clip.frames, clip.seed, clip.guidance, clip.width) for clip in both] == [
        (5, 3, 1.0, 480),
        (5, 4, 1.0, 720),
    ]
    picture = plan_clips(rows[1:], Settings(frames=1), tier="nano", sampling=Sampling())[0]
    assert (picture.mode, picture.steps, picture.width, picture.suffix) == ("text2image", 50, 960, ".png")
    assert picture.negative == "This image is of 960x960 resolution."


def test_defaults_that_weights_carry_win_over_those_of_the_model_size() -> None:
    recorded = {
        "size": "256",
        "frames": 93,
        "fps": 16.0,
        "steps": 7,
        "tells_duration": False,
        "modes": ["text to video"],
    }
    clip = plan_clips([Row(prompt="a")], Settings(), tier="nano", sampling=Sampling(), recorded=recorded)[0]
    assert (clip.width, clip.height, clip.frames, clip.fps, clip.steps) == (320, 192, 93, 16.0, 7)
    assert clip.text == "a. This video is of 192x320 resolution."
    told = plan_clips(
        [Row(prompt="a")], Settings(tells_facts=True), tier="nano", sampling=Sampling(), recorded=recorded
    )
    assert told[0].text == "a. The video is 5.8 seconds long and is of 16 FPS. This video is of 192x320 resolution."
    picture = plan_clips([Row(prompt="a")], Settings(frames=1), tier="nano", sampling=Sampling(), recorded=recorded)[0]
    assert (picture.width, picture.height, picture.steps) == (256, 256, 50)
    sentences = {"tells_duration": True, "tells_size": True}
    demo = plan_clips([Row(prompt="a")], Settings(), tier="tiny", sampling=Sampling(), recorded=sentences)[0]
    assert demo.text == "a"


def test_a_structured_caption_gets_only_the_facts_that_are_told() -> None:
    duration, size = Facts(93, 256, 256, 24.0, tells_size=False), Facts(93, 256, 256, 24.0, tells_duration=False)
    assert set(json.loads(prompt_text("{}", duration, escape=True))) == {"duration", "fps"}
    assert set(json.loads(prompt_text("{}", size, escape=True))) == {"resolution", "aspect_ratio"}


def test_lengths_are_rounded_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(clips.logger, "warning", lambda text, *values: told.append(text % values))
    rows = [Row(prompt="a", frames=24, file="p.csv", line=2), Row(prompt="b", frames=25)]
    first, second = plan_clips(rows, Settings(), tier="nano", sampling=Sampling())
    assert (first.frames, second.frames) == (25, 25)
    assert "1.0 seconds" in first.text
    assert len(told) == 1
    assert told[0].startswith("p.csv:2: 24 frames do not fit")
    assert told[0].endswith("25 are made (21 fit too)")


def test_one_line_says_which_prompts_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    plan_clips([Row(prompt=text) for text in ("", "a", "\u200b ")], Settings(), tier="nano", sampling=Sampling())
    assert capsys.readouterr().err == "clip_000, clip_002: the prompt is empty, so the model chooses what to show\n"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (Settings(guidance=float("nan")), "--guidance"),
        (Settings(shift=float("inf")), "--shift"),
        (Settings(interval=(900.0, 100.0)), "--guidance-interval"),
        (Settings(interval=(float("nan"), 100.0)), "--guidance-interval"),
        (Settings(fps=0.0), "--fps"),
        (Settings(fps=1e9), "--fps"),
        (Settings(frames=-3), "--frames"),
        (Settings(frames=1_000_000_001), "--frames"),
        (Settings(size="999984x16000"), "--frames"),
        (Settings(seed=2**32 - 1), "--seed"),
        (Settings(condition_frames=3), "--condition-frames"),
        (Settings(keep_last=True), "--keep-last"),
        (Settings(size="64x64", aspect="16:9"), "--aspect"),
    ],
    ids=str,
)
def test_options_that_nothing_can_be_made_with_are_named(settings: Settings, key: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_clips([Row(prompt="a"), Row(prompt="b")], settings, tier="tiny", sampling=Sampling())
    assert {problem.key for problem in caught.value.problems} == {key}


def test_seeds_of_a_file_are_checked() -> None:
    rows = [Row(prompt="a", seed=seed, file="p.csv", line=seed) for seed in (-1, 2**32)]
    with pytest.raises(UserError) as caught:
        plan_clips(rows, Settings(), tier="tiny", sampling=Sampling())
    assert [(problem.key, problem.line) for problem in caught.value.problems] == [("seed", -1), ("seed", 2**32)]


def test_a_table_without_a_prompt_column_is_told_once(tmp_path: Path) -> None:
    for name, text in (
        ("a.csv", "text,width\nx,1\ny,2\n"),
        ("b.csv", "A robot arm\n"),
        ("c.csv", "prompt;frames\na;5\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            read_prompts(tmp_path / name)
        assert [problem.line for problem in caught.value.problems] == [1]
        assert "'prompt'" in caught.value.problems[0].message
    (tmp_path / "null.jsonl").write_text('{"prompt": null}')
    with pytest.raises(UserError):
        read_prompts(tmp_path / "null.jsonl")
    (tmp_path / "LOUD.TXT").write_text("a")
    assert [row.prompt for row in read_prompts(tmp_path / "LOUD.TXT")] == ["a"]


def test_small_clips_are_shown_larger_and_large_ones_as_they_are(tmp_path: Path) -> None:
    row = PageRow("a <script>alert(1)</script>", [Cell("small", "s.mp4", 64), Cell("large", "l.mp4", 320)])
    write_page(tmp_path / "p.html", "t", [row])
    text = (tmp_path / "p.html").read_text()
    assert 'src="s.mp4" width="256"' in text
    assert "64 pixels wide, shown 4 times as large" in text
    assert 'src="l.mp4" width="320"' in text
    assert "<script>" not in text


def test_prompt_files_of_each_kind_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a cat", "frames": 9, "image": "x.png"}\n\n{"prompt": {"k": 1}}\n')
    (tmp_path / "a.csv").write_text('prompt,frames,image\n"a cat",9,x.png\n"{""k"": 1}",,\n')
    (tmp_path / "a.txt").write_text("a cat\n\n\ufeffa dog\n".replace("\ufeff", ""))
    first, second = read_prompts(tmp_path / "a.jsonl")
    assert (first.prompt, first.frames, first.image, first.line) == ("a cat", 9, tmp_path / "x.png", 1)
    assert second.prompt == '{"k": 1}'
    table = read_prompts(tmp_path / "a.csv")
    assert [(row.prompt, row.frames, row.image) for row in table] == [
        ("a cat", 9, tmp_path / "x.png"),
        ('{"k": 1}', None, None),
    ]
    assert [(row.prompt, row.line) for row in read_prompts(tmp_path / "a.txt")] == [("a cat", 1), ("a dog", 3)]


def test_bad_lines_of_prompt_files_are_all_told(tmp_path: Path) -> None:
    lines = ('{"promt": "a"}', "[1]", "{", '{"prompt": "b", "frames": "many", "seed": 1.5}', '{"prompt": 3}')
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        read_prompts(tmp_path / "bad.jsonl")
    told = {(problem.line, problem.key) for problem in caught.value.problems}
    assert told == {(1, "promt"), (1, "prompt"), (2, ""), (3, ""), (4, "frames"), (4, "seed"), (5, "prompt")}
    assert "did you mean 'prompt'" in next(p.hint for p in caught.value.problems if p.key == "promt")
    for name, text in (
        ("a.md", "x"),
        ("empty.txt", "\n"),
        ("wide.csv", "prompt\na,b\n"),
        ("twice.csv", "prompt,prompt\na,b\n"),
        ("open.csv", 'prompt\n"a\nb\n'),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            read_prompts(tmp_path / name)
    assert [(problem.line, "never closed" in problem.message) for problem in caught.value.problems] == [(2, True)]
    for name, text in (("a.jsonl", '{"prompt": "a\u2028b"}\r\n'), ("b.txt", "a\u2028b\r\n\r\n")):
        (tmp_path / name).write_bytes(text.encode())
        assert [row.prompt for row in read_prompts(tmp_path / name)] == ["a\u2028b"]


def test_captions_wrap_in_any_script_and_only_very_long_ones_are_cut(tmp_path: Path) -> None:
    font = font_for("a")
    for text in ("word " * 30, "字" * 90):
        lines = wrapped(text, 300)
        assert len(lines) > 1
        assert all(font_for(text).getlength(line) <= 300 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")[: len("".join(lines).replace(" ", ""))]
    assert wrapped("x" * 5000, 300)[-1].endswith("…")
    assert wrapped("", 300) == [""]
    assert wrapped("a\n\tball\r\n\u2028rolls", 300) == ["a ball rolls"]
    assert font.getlength("a") > 0
    clip = torch.zeros(3, 5, 32, 64, dtype=torch.uint8)
    write_contact_sheet(tmp_path / "s.png", ["t"], [SheetRow("word " * 60, [clip]), SheetRow("short", [clip])])
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 2 * (96 + 15)
