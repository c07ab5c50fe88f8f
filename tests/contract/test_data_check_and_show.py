"""`cosmos data check` and `cosmos data show` on data without a recipe: what is told is what ffmpeg shows and training
reads."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from tests.browser import browser, look
from tests.command import cosmos
from tests.ffmpeg import ffmpeg, shown_frames, shown_times

WIDTH, HEIGHT = 96, 64
CROPPED = 80
"""Long side of the generator's tier 64 at these ratios; its short side is that of the videos."""
X264 = "-c:v libx264 -pix_fmt yuv420p"
SMALL_IMAGES = "model.image_min_pixels=1024"
ORIENTATION = 0x112


def drawn(seconds: float, then: str = "") -> list[str]:
    return f"-f lavfi -i testsrc2=s={WIDTH}x{HEIGHT}:r=25:d={seconds}{',' + then if then else ''}".split()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that are turned, cut by an edit list, of varying rate or with a gap; a picture that lies on its side."""
    folder = tmp_path_factory.mktemp("media")
    source = tmp_path_factory.mktemp("source") / "open.mp4"
    ffmpeg(*drawn(3), *f"{X264} -x264-params keyint=30:open-gop=1:bframes=4".split(), source)
    ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", folder / "turned.mp4")
    ffmpeg("-ss", "1.5", "-i", source, "-c", "copy", folder / "edited.mp4")
    jitter = drawn(3, "settb=1/1000,setpts='N*40+floor(random(1)*24)'")
    ffmpeg(*jitter, *f"-fps_mode passthrough -enc_time_base 1:1000 {X264} -g 20".split(), folder / "jitter.mkv")
    vp9 = "-c:v libvpx-vp9 -g 20 -deadline realtime -cpu-used 8"
    gap = drawn(3, "select='not(between(n,30,50))'")
    ffmpeg(*gap, *f"-fps_mode passthrough {vp9}".split(), folder / "gap.webm")
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "lying.png", exif=exif)
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text(f"a test picture, {path.stem}")
    return folder


def all_frames(path: Path, *, scaled: bool = False) -> np.ndarray:
    """Every frame as a player or a viewer shows it, [T, H, W, 3]. scaled: by the filter that scales clips."""
    if path.suffix == ".png":
        return np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(path)))[None]
    size = (HEIGHT, WIDTH) if path.stem == "turned" else (WIDTH, HEIGHT)
    if not scaled:
        return shown_frames(path, *size)
    scale = f"scale={size[0]}:{size[1]}:flags=bicubic+accurate_rnd"
    raw = ffmpeg("-i", path, *f"-fps_mode passthrough -vf {scale} -f rawvideo -pix_fmt rgb24 -".split())
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def all_times(path: Path) -> list[float]:
    return [0.0] if path.suffix == ".png" else shown_times(path)


def pictures(place: Path, names: list[str]) -> np.ndarray:
    return np.stack([np.asarray(PIL.Image.open(place / name)) for name in names])


def cropped(frames: np.ndarray) -> np.ndarray:
    """The middle of the longer side."""
    edge = (WIDTH - CROPPED) // 2
    tall = frames.shape[1] > frames.shape[2]
    return frames[:, edge : edge + CROPPED] if tall else frames[:, :, edge : edge + CROPPED]


def check_medium(about: dict[str, Any], frames: np.ndarray, shown: np.ndarray) -> None:
    """Frames and times are those that the ffmpeg program shows at these numbers."""
    numbers = about["frame_indices"]
    assert np.array_equal(frames, shown[numbers])
    times = all_times(Path(about["file"]))
    assert np.allclose(about["frame_seconds"], [times[number] for number in numbers], atol=1e-3)
    assert (about["height"], about["width"]) == frames.shape[1:3]


def test_the_page_fits_a_phone_and_a_wide_window(media: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    cosmos("data", "check", str(media), "dataloader_train.dataset.resolution=256", "--html", str(page))
    with browser() as chromium:
        for seen in look(chromium, page).values():
            assert max(seen["images"]) > 400
            assert seen["overflow"] <= 0


def test_the_generator_gets_the_frames_that_ffmpeg_shows(media: Path, tmp_path: Path) -> None:
    tier = "dataloader_train.dataset.resolution=64"
    done = cosmos("data", "show", str(media), tier, "--count", "9", "-o", str(tmp_path / "shown"))
    assert "read as dataset 'folder', settings of recipe vision_sft_nano" in done.stderr
    places = sorted((tmp_path / "shown").iterdir())
    about = {place: json.loads((place / "sample.json").read_text()) for place in places}
    files = {Path(values["file"]).name for values in about.values()}
    assert files == {"turned.mp4", "edited.mp4", "jitter.mkv", "gap.webm", "lying.png"}
    for place, values in about.items():
        path = Path(values["file"])
        names = sorted(str(file.relative_to(place)) for file in (place / "frames").iterdir())
        whole = len(all_frames(path))
        check_medium(values, pictures(place, names), cropped(all_frames(path, scaled=True)))
        assert len(names) == (whole - 1) // 4 * 4 + 1
        if path.suffix != ".png":
            assert values["fps"] == pytest.approx((whole - 1) / all_times(path)[-1], rel=1e-2)


def dialog(key: str, *parts: str) -> dict[str, Any]:
    """A dialog about files and texts; a file has a dot in its name."""
    kinds = {"png": "image"}
    content = [
        {"type": kind, kind: part} if "." in part else {"type": "text", "text": part}
        for part in parts
        for kind in [kinds.get(part[-3:], "video")]
    ]
    answer = {"role": "assistant", "content": "A picture."}
    return {"id": key, "messages": [{"role": "user", "content": content}, answer]}


def test_the_reasoner_gets_the_frames_that_ffmpeg_shows(media: Path, tmp_path: Path) -> None:
    rows = [
        dialog("both", "lying.png", "before", "turned.mp4", "after", "lying.png"),
        *(dialog(name, name, "What?") for name in ("edited.mp4", "jitter.mkv", "gap.webm")),
        dialog("words", "What?"),
    ]
    file, out = tmp_path / "rows.jsonl", tmp_path / "shown"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    roots = f'dataloader_train.dataset.media_roots=["{media}"]'
    cosmos("data", "show", str(file), roots, SMALL_IMAGES, "--count", "9", "-o", str(out))
    about = {place: json.loads((place / "sample.json").read_text()) for place in out.iterdir()}
    assert {values["key"] for values in about.values()} == {row["id"] for row in rows}
    for place, values in about.items():
        asked, answer = values["messages"]
        parts = [part for part in asked["content"] if part["type"] != "text"]
        for part in parts:
            check_medium(part, pictures(place, part["frames"]), all_frames(Path(part["file"])))
        assert len(list(place.glob("frames/*.png"))) == len(values["frame_indices"] or [])
        assert values["frame_indices"] == ([number for part in parts for number in part["frame_indices"]] or None)
        assert (place / "contact_sheet.png").is_file() == bool(parts)
        assert answer["content"] == [{"type": "text", "text": "A picture."}]
        assert (place / "text.txt").read_text().endswith("<|im_start|>assistant\n⟦A picture.<|im_end|>⟧\n")
        if values["key"] == "both":
            assert [part["type"] for part in asked["content"]] == ["image", "text", "video", "text", "image"]
            assert values["file"] == parts[1]["file"] == str(media / "turned.mp4")
            assert (values["fps"], values["width"], values["height"]) == (25, HEIGHT, WIDTH)
            assert [part["fps"] for part in parts] == [None, 25, None]
        if values["key"] == "words":
            assert {values[name] for name in ("file", "frame_indices", "frame_seconds", "fps", "width")} == {None}


def test_a_sample_is_named_by_its_place_or_its_key(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(dialog(key, key)) + "\n" for key in ("first", "second", "third")))
    by_place = cosmos("data", "show", str(file), "--sample", "2", "-o", str(tmp_path / "place"))
    key = json.loads((tmp_path / "place/sample.json").read_text())["key"]
    by_key = cosmos("data", "show", str(file), "--sample", key, "-o", str(tmp_path / "key"))
    assert by_place.stdout.partition(":")[2] == by_key.stdout.partition(":")[2]
    refused = cosmos("data", "show", str(file), "--sample", "secund", "-o", str(tmp_path / "none"), code=2)
    assert "did you mean 'second'?" in refused.stderr
    number = "9" * 5000
    refused = cosmos("data", "show", str(file), "--sample", number, "-o", str(tmp_path / "none"), code=2)
    assert "a number below 3" in refused.stderr
    assert not (tmp_path / "none").exists()


class Page(HTMLParser):
    """What a page would load, and how many of each element it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]


def test_a_check_counts_what_a_pack_cannot_hold_and_writes_a_page(media: Path, tmp_path: Path) -> None:
    rows = [
        dialog("picture", "lying.png", "What?"), dialog("video", "turned.mp4", "What?"),
        dialog("long", "What? " * 200), dialog("words", "<b>What</b>?"),
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = (
        f'dataloader_train.dataset.media_roots=["{media}"]', SMALL_IMAGES, "dataloader_train.max_sequence_length=300",
        "dataloader_train.max_samples_per_batch=2",
    )  # fmt: skip
    told = cosmos("data", "check", str(file), *settings, "--json", cwd=tmp_path).stdout
    answer = json.loads(told)
    report = answer["dataloader_train"]
    assert (report["samples"], report["read"], report["used"], report["overlong"]) == (4, 4, 3, 1)
    [skipped] = report["skipped"]
    assert (skipped["reason"], skipped["key"]) == ("longer than a pack", "dataloader_train.overlong")
    assert skipped["examples"][0].startswith("long (")
    assert report["kinds"] == {"video": 1, "image": 1, "text": 1}
    assert report["sizes"] == {f"{HEIGHT}x{WIDTH}": 2}
    assert report["ranges"]["frames a second"] == [25, 25, 25]
    assert report["ranges"]["answer characters a dialog"][0] == len("A picture.")
    assert (report["packs"], report["steps"]) == (2, 2)
    assert 0 < report["packing_efficiency"] < 1
    text = (tmp_path / answer["page"]).read_text()
    page = Page(text)
    assert page.count["img"] == 2
    assert all(address.startswith("data:") for address in page.loaded)
    assert "http" not in text
    assert "<b>" not in text
    assert page.count["tr"] > len(rows)
    by_policy = {
        "error": "sample long takes",
        "truncate_answer": "its last answer lies beyond the cut",
    }
    for policy, words in by_policy.items():
        code = 2 if policy == "error" else 0
        done = cosmos(
            "data", "check", str(file), *settings, f"dataloader_train.overlong={policy}", "--no-html", code=code
        )
        assert words in done.stdout + done.stderr
        assert f"longer than a pack: 1 of 4 (dataloader_train.overlong = {policy})" in done.stdout
        assert "page:" not in done.stdout


def test_clips_that_a_pack_cannot_hold_are_counted_beforehand(media: Path, tmp_path: Path) -> None:
    small = ("dataloader_train.dataset.resolution=64", "dataloader_train.dataset.cfg_dropout_rate=0")
    cosmos("data", "show", str(media), *small, "--count", "9", "-o", str(tmp_path / "shown"))
    shown = [json.loads(path.read_text()) for path in (tmp_path / "shown").rglob("sample.json")]
    tokens = {values["key"]: values["tokens"] for values in shown}
    most = tokens["edited_w0"] + 1
    long = {key for key in tokens if tokens[key] >= most}
    assert 0 < len(long) < 4
    settings, page = (*small, f"dataloader_train.max_sequence_length={most}"), tmp_path / "page.html"
    inside = ("data", "check", str(media), "--html", str(media / "lying.txt" / "page.html"))
    assert "the output cannot be written; nothing was read" in cosmos(*inside, code=2).stderr
    told = json.loads(cosmos("data", "check", str(media), *settings, "--html", str(page), "--json").stdout)
    report = told["dataloader_train"]
    assert (report["read"], report["used"], report["overlong"]) == (5, 5 - len(long), len(long))
    assert report["ranges"]["tokens a sample"][2] == tokens["edited_w0"]
    [skipped] = report["skipped"]
    assert {example.partition(" ")[0] for example in skipped["examples"]} == long
    assert Page(page.read_text()).count["img"] == 5 - len(long)
    done = cosmos("data", "check", str(media), *settings, "dataloader_train.overlong=error", "--no-html", code=2)
    assert done.stderr.count(f"can never fit under {most}") == len(long) > 1
    assert done.stderr.count("leave such samples out") == 1
    cap = ("dataloader_train.max_sequence_length=null", "dataloader_train.max_samples_per_batch=4")
    of_model = (*small, *cap, f"model.max_num_tokens_after_packing={most}", "dataloader_train.overlong=error")
    said = cosmos("data", "check", str(media), *of_model, "--no-html", code=2).stderr
    assert "(model.max_num_tokens_after_packing; set it above that, " in said


def test_validation_data_is_checked_where_the_run_validates(media: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "mine")
    cosmos("data", "prepare", "folder", str(media), "-o", out, "--val", "0.4", "--recipe", "vision_sft_demo")
    answer = json.loads(cosmos("data", "check", out, "--json", "--quick", "--no-html").stdout)
    assert answer["page"] is None
    assert [answer[name]["used"] for name in ("dataloader_train", "dataloader_val")] == [3, 2]
    assert answer["dataloader_train"]["latent_bytes"] > 0
    manifest, roots = f"{out}/train/video_dataset_file.jsonl", f'dataloader_train.dataset.media_roots=["{media}"]'
    short = "dataloader_train.dataset.min_window_frames=1"
    for data in (manifest, out):
        told = cosmos("data", "check", data, roots, short, "--recipe", "vision_sft_demo", "--json", "--no-html").stdout
        assert json.loads(told).keys() == {"page", "dataloader_train"}
        assert json.loads(told)["dataloader_train"]["used"] == 3
    alone = json.loads(cosmos("data", "check", out, "trainer.run_validation=false", "--json", "--no-html").stdout)
    assert alone.keys() == {"page", "dataloader_train"}


BAD_ROWS = {
    "turn 1 has the unknown role 'narrator'": {"messages": [{"role": "narrator", "content": "x"}]},
    "1 images for 2 places": {"query": "<image><image>", "response": "x", "images": ["small.png"]},
    "turn 2 is an empty answer": {"query": "x", "response": " "},
    "image file is missing": {"query": "<image>", "response": "x", "images": ["none.png"]},
    "image has more than 89 million pixels": {"query": "<image>", "response": "x", "images": ["huge.png"]},
    "image path is empty": {"query": "<image>", "response": "x", "images": [""]},
    "image path is that of a folder": {"query": "<image>", "response": "x", "images": ["."]},
    "image is empty": {"query": "<image>", "response": "x", "images": ["empty.png"]},
    "is too elongated": {"query": "<image>", "response": "x", "images": ["line.png"]},
    "the field audios is not supported": {"query": "x", "response": "x", "audios": ["a.wav"]},
}


def test_bad_dialogs_are_told_with_file_and_line(tmp_path: Path) -> None:
    for name, size in {"small": (64, 64), "huge": (12000, 12000), "line": (4000, 1)}.items():
        PIL.Image.new("1", size).save(tmp_path / f"{name}.png")
    (tmp_path / "empty.png").touch()
    good = {"query": "x", "response": "y"}
    lines = [json.dumps(row) for row in (good, *BAD_ROWS.values(), {**good, "id": 0}, {**good, "id": 0})]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    done = cosmos("data", "check", str(tmp_path / "rows.jsonl"), "--no-html", code=2)
    assert "Traceback" not in done.stderr
    assert "repeated: 2 x samples with the id, or without one the content, of another, e.g. 0" in done.stdout
    assert f"{len(BAD_ROWS)} of {len(lines)} samples cannot be used" in done.stderr
    for line, reason in enumerate(BAD_ROWS, start=2):
        [told] = [text for text in done.stderr.splitlines() if f"rows.jsonl, line {line})" in text]
        assert reason in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "rows.jsonl:1  there is nothing in it"),
        (
            '{"query": "x", "response": "y"} x\n',
            "rows.jsonl:1  is not JSON: Extra data; a .jsonl file holds one object a line",
        ),
        ('{"query": "x", "response": "y"}\n{"query": 1}]\n\n[\n', "rows.jsonl:4  is not JSON: Expecting value"),
        ('{"query": "x", "response": "y"}\n[]\n', "rows.jsonl:2  record 2 is not an object"),
        ('{"a": 1}\n', "no column for the path"),
    ],
    ids=["blank", "garbage after the first row", "several bad lines", "a row that is no object", "other rows"],
)
def test_a_file_that_holds_no_rows_is_refused_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    done = cosmos("data", "check", str(tmp_path / "rows.jsonl"), "--no-html", code=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_is_neither_a_recipe_nor_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    for target, words in {
        tmp_path / "notes.md": "is no manifest, no table of clips (a spreadsheet is read when it is saved as CSV)",
        tmp_path: "holds no manifest, no table, no dialogs and no clips",
        tmp_path / "note.md": "note.md  there is no such file or folder, and no recipe of that name; "
        "did you mean 'notes.md'?",
        Path("helo"): "helo  there is no such file or folder, and no recipe of that name; did you mean 'hello'?",
    }.items():
        assert words in cosmos("data", "check", str(target), "--no-html", code=2).stderr
    other = cosmos(
        "data", "check", "hello", "dataloader_train.dataset.type=chat", "dataloader_train.dataset.path=x", code=2
    )
    assert "the data does not suit the model family" in other.stderr
    assert "is itself a recipe" in cosmos("data", "check", "hello", "--recipe", "hello", code=2).stderr
