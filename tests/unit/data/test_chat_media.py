"""Images and videos of dialogs: upright, in 8 bits, and only from where they may lie."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from cosmos_core.data import UnreadableSample, Video
from cosmos_core.data.chat import MediaReader, frame_numbers, read_image, to_chat
from cosmos_core.data.video import write_mp4

ORIENTATION = 0x0112


def drawn(width: int = 96, height: int = 48) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


def stored(image: PIL.Image.Image, form: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_an_image_is_turned_as_its_metadata_says(form: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    data = stored(drawn(), form, exif=exif)
    expected = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data))).convert("RGB")
    pixels = read_image(data).pixels
    assert pixels.shape[1:] == ((96, 48) if orientation in (6, 8) else (48, 96))
    assert (pixels.permute(1, 2, 0).numpy() == np.asarray(expected)).all()


def test_grey_of_16_bits_is_scaled_to_8(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    PIL.Image.fromarray(levels).save(tmp_path / "depth.png")
    pixels = read_image(tmp_path / "depth.png").pixels.numpy()
    assert np.abs(pixels[0] - levels / 257).max() <= 0.5
    assert (pixels[0] == pixels[2]).all()


def test_an_image_comes_from_a_path_from_bytes_or_from_a_data_url(tmp_path: Path) -> None:
    data = stored(drawn(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    reader = MediaReader(root=tmp_path, folders=(tmp_path,))
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    sources = ["a.png", f"file://{tmp_path}/a.png", url, data, {"bytes": data, "path": None}, {"path": "a.png"}]
    expected = np.asarray(drawn())
    for source in sources:
        assert (reader.image(source).pixels.permute(1, 2, 0).numpy() == expected).all()


def test_an_image_is_turned_wherever_it_comes_from(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    data = stored(drawn(), "PNG", exif=exif)
    (tmp_path / "a.png").write_bytes(data)
    reader = MediaReader(root=tmp_path, folders=(tmp_path,))
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    expected = np.asarray(drawn().transpose(PIL.Image.Transpose.ROTATE_270))
    for source in ("a.png", url, data, {"bytes": data, "path": None}, {"bytes": None, "path": "a.png"}):
        assert (reader.image(source).pixels.permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("absent.png", "image file is missing"),
        ("https://example.com/a.png", "image is an address"),
        ("../a.png", "; media_roots = .* allows it: image lies outside of the dataset's folder and its media_roots"),
        ("a\0.png", "holds a NUL"),
        (7, "neither a path nor embedded"),
        ("x" * 9_999, "image path has 9999 bytes"),
        ("data:image/png,xx", "not a data: URL in base64"),
        (b"no image", "a format that Pillow does not read"),
    ],
)
def test_an_image_that_cannot_be_read_says_why(tmp_path: Path, source: Any, reason: str) -> None:
    with pytest.raises(UnreadableSample, match=reason) as refused:
        MediaReader(root=tmp_path, folders=(tmp_path,)).image(source)
    assert len(str(refused.value)) < 1000
    with pytest.raises(UnreadableSample, match="image is not embedded"):
        MediaReader().image("a.png")


def test_media_roots_hold_images_that_rows_name_relatively(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").write_bytes(stored(drawn(), "PNG"))
    reader = MediaReader(tmp_path / "rows", (tmp_path / "rows",), (str(tmp_path / "elsewhere"),))
    assert reader.image("a.png").pixels.shape == (3, 48, 96)


def test_a_row_becomes_a_chat_with_a_video_at_the_asked_rate(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    write_mp4(tmp_path / "a.mp4", frames, fps=10)
    row = {"query": "What happens?<video>", "response": "Noise.", "videos": ["a.mp4"]}
    reader = MediaReader(root=tmp_path, folders=(tmp_path,), target_fps=2.0, max_frames=3)
    chat = to_chat(row, "one", "one (rows.jsonl, line 1)", reader)
    video = chat.messages[0].content[1]
    assert isinstance(video, Video)
    assert video.pixels.shape == (3, 3, 64, 64)
    assert video.seconds == pytest.approx((0.0, 1.0, 1.5))
    film = (tmp_path / "a.mp4").read_bytes()
    url = "data:video/mp4;base64," + base64.b64encode(film).decode()
    for source in (film, url, {"bytes": film, "path": None}, {"bytes": None, "path": "a.mp4"}):
        again = reader.video(source)
        assert (again.pixels == video.pixels).all()
        assert again.seconds == video.seconds
    with pytest.raises(UnreadableSample, match="^an embedded video: its index .moov. is missing: it was cut short"):
        reader.video(film[:99])
    with pytest.raises(UnreadableSample, match=r"rows.jsonl, line 2.*: file is missing"):
        to_chat({**row, "videos": ["b.mp4"]}, "two", "two (rows.jsonl, line 2)", reader)


@pytest.mark.parametrize(("count", "fps", "expected"), [(20, 10.0, [0, 5, 10, 15]), (90, 30.0, [0, 15, 30, 60, 75])])
def test_frames_are_taken_at_the_asked_rate_or_spread(count: int, fps: float, expected: list[int]) -> None:
    assert frame_numbers(count, fps, 2.0, 5) == expected
