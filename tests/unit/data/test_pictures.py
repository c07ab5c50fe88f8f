"""Pictures of all kinds: those that can be read have the colours of Pillow's and ffmpeg's own conversions."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.data.chat import read_image
from cosmos_core.data.video import decode_frames, probe
from tests.ffmpeg import ffmpeg, shown_frames

FIXTURES = Path(__file__).parents[2] / "fixtures"
ROWS, COLUMNS = np.mgrid[0:48, 0:96]
COLOURS = np.stack([COLUMNS * 255 // 95, ROWS * 255 // 47, (ROWS + COLUMNS) * 255 // 142], -1).astype(np.uint8)
IMAGE = PIL.Image.fromarray(COLOURS)
PALETTE = IMAGE.quantize(64)
SEE_THROUGH = IMAGE.copy()
SEE_THROUGH.putalpha(PIL.Image.fromarray(((COLUMNS // 12 + ROWS // 12) % 2 * 255).astype(np.uint8)))
MOVING: dict[str, Any] = {"save_all": True, "append_images": [PIL.ImageOps.invert(IMAGE)], "duration": 100}

EXACT: dict[str, tuple[PIL.Image.Image, dict[str, Any]]] = {
    "lossless.webp": (IMAGE, {"lossless": True}),
    "moving.webp": (IMAGE, {"lossless": True, **MOVING}),
    "moving.gif": (PALETTE, {"save_all": True, "append_images": [PALETTE.rotate(180)], "duration": 100}),
    "moving.png": (IMAGE, MOVING),
    "alpha.png": (SEE_THROUGH, {}),
    "alpha.webp": (SEE_THROUGH, {"lossless": True, "exact": True}),
    "grey_alpha.png": (SEE_THROUGH.convert("LA"), {}),
    "palette.png": (PALETTE, {}),
    "palette_alpha.png": (PALETTE, {"transparency": bytes(range(64))}),
    "palette_alpha.gif": (PALETTE, {"transparency": 3}),
    "two_levels.tif": (IMAGE.convert("1"), {}),
    "cmyk.tif": (IMAGE.convert("CMYK"), {}),
}
CLOSE: dict[str, tuple[PIL.Image.Image, dict[str, Any]]] = {
    "lossy.webp": (IMAGE, {"quality": 95}),
    "lossy.avif": (IMAGE, {"quality": 95}),
    "alpha.avif": (SEE_THROUGH, {"quality": 95}),
    "cmyk.jpg": (IMAGE.convert("CMYK"), {"quality": 98}),
    "colours.jpg": (IMAGE, {"quality": 98}),
}


def pixels_of(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(path).pixels.permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("name", EXACT | CLOSE)
def test_a_picture_has_its_colours_whatever_stores_them(name: str, tmp_path: Path) -> None:
    image, options = (EXACT | CLOSE)[name]
    image.save(tmp_path / name, **options)
    expected = np.asarray(image.convert("RGBA").convert("RGB") if image.mode != "CMYK" else image.convert("RGB"))
    differ = np.abs(pixels_of(tmp_path / name) - expected)
    assert differ.max() <= (0 if name in EXACT else 24)
    assert differ.mean() <= 3


@pytest.mark.parametrize("name", ["moving.gif", "palette.png", "alpha.png", "cmyk.jpg", "colours.jpg", "alpha.avif"])
def test_the_video_reader_sees_the_same_picture(name: str, tmp_path: Path) -> None:
    """As a clip of one frame; the first one of several."""
    image, options = (EXACT | CLOSE)[name]
    image.save(tmp_path / name, **options)
    frames = decode_frames(tmp_path / name, range(probe(tmp_path / name).frames))
    assert np.array_equal(frames, shown_frames(tmp_path / name, 96, 48))
    differ = np.abs(pixels_of(tmp_path / name) - frames[0])
    assert differ.max() <= 8  # JPEG and AVIF: half the resolution of colour, brought back in two ways.
    assert differ.mean() <= 2


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        *[("deep.png", stored) for stored in ("gray16be", "rgb48be", "rgba64be", "ya16be")],
        *[("deep.tif", stored) for stored in ("gray16le", "rgb48le", "rgba64le")],
    ],
)
def test_levels_of_16_bits_are_scaled_to_8(name: str, stored: str, tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "plain.png")
    path = tmp_path / name
    ffmpeg("-i", tmp_path / "plain.png", "-pix_fmt", stored, path)
    grey = stored.startswith(("gray", "ya"))
    ffmpeg("-i", tmp_path / "plain.png", "-pix_fmt", "gray" if grey else "rgb24", tmp_path / "flat.png")
    expected = np.asarray(PIL.Image.open(tmp_path / "flat.png").convert("RGB")).astype(int)
    assert np.abs(pixels_of(path) - expected).max() <= 1
    assert np.abs(decode_frames(path, [0])[0] - expected).max() <= 1


HEADS = {
    "HEIF": (FIXTURES / "picture.heic").read_bytes(),
    "JPEG XL": b"\xff\x0a\xfa\x7f\x01\x90\x08\x06",
    "SVG": b'\n<?xml version="1.0"?><svg/>',
    "PDF": b"%PDF-1.7",
    "a video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
}


@pytest.mark.parametrize("name", HEADS)
def test_a_picture_that_cannot_be_read_is_refused_by_its_format(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(HEADS[name])
    for source in (HEADS[name], tmp_path / "a.png"):
        with pytest.raises(UnreadableSample) as refused:
            read_image(source)
        assert refused.value.reason == f"image cannot be read: it is {name}; convert it to PNG or JPEG"
    with pytest.raises(UnreadableSample, match="it is of a format that Pillow does not read"):
        read_image(b"words")
    with pytest.raises(UnreadableSample, match="image is empty"):
        read_image(b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html></html>", "a web page, as of a failed download; fetch the file again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer, not the file; `git lfs pull` fetches it",
        ),
    ],
)
def test_what_lies_in_place_of_a_file_is_told_as_that(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableSample, match=f"image is {words}"):
        read_image(content)
    for name in ("a.png", "a.mp4"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableSample, match=f"it is {words}"):
            probe(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "avif"])
def test_a_picture_that_is_cut_short_is_not_told_to_be_of_another_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    IMAGE.save(path, **({"compression": "tiff_lzw"} if suffix == "tif" else {}))
    whole = path.read_bytes()
    for length in (14, len(whole) // 2):
        path.write_bytes(whole[:length])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of the cut itself.
            with pytest.raises(UnreadableSample, match=r"image is damaged|image cannot be read \("):
                read_image(path)


def test_a_whole_picture_of_a_kind_that_pillow_lacks_is_not_told_to_be_damaged_alone(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.tif", tiffinfo={339: (3, 3, 3)})  # Floating point, as satellites' are.
    with pytest.raises(UnreadableSample, match="that Pillow does not read; if it is whole, convert it to PNG or JPEG"):
        read_image(tmp_path / "a.tif")


def test_levels_without_a_range_are_refused(tmp_path: Path) -> None:
    for levels, reason in ((COLUMNS / 95, "floating point"), (COLUMNS * 100000, "more than 16 bits")):
        PIL.Image.fromarray(levels.astype(np.float32 if reason[0] == "f" else np.int32)).save(tmp_path / "a.tif")
        with pytest.raises(UnreadableSample, match=f"levels of {reason}; convert it to 8 or 16 bits"):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["picture.heic", "tiles.avif"])
def test_a_picture_that_ffmpeg_decodes_in_parts_is_no_clip(name: str, tmp_path: Path) -> None:
    """It gives one tile of several, and a HEIF picture without its crop."""
    path = Path(shutil.copy(FIXTURES / name, tmp_path))
    for read in (probe, lambda path: decode_frames(path, [0])):
        with pytest.raises(UnreadableSample, match="a HEIF picture, or one in tiles; convert it to PNG or JPEG"):
            read(path)


@pytest.mark.parametrize(
    ("mode", "compression"), [("RGB", "jpeg"), ("L", "jpeg"), ("CMYK", "jpeg"), ("YCbCr", None), ("YCbCr", "tiff_lzw")]
)
def test_a_tiff_picture_that_ffmpeg_decodes_in_other_colours_is_no_clip(
    mode: str, compression: str | None, tmp_path: Path
) -> None:
    """Black, where there is JPEG in it. A dialog's is read."""
    path = tmp_path / "a.tif"
    IMAGE.convert(mode).save(path, compression=compression)
    with pytest.raises(UnreadableSample, match="a TIFF picture with JPEG or YCbCr in it; convert it to PNG or JPEG"):
        probe(path)
    assert pixels_of(path).shape == (48, 96, 3)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("moving.webp", "RGB", {"lossless": True, **MOVING}),
        ("lab.tif", "LAB", {}),
        ("packed.tif", "RGB", {"compression": "lzma"}),
        ("big.tif", "RGB", {"big_tiff": True}),
    ],
)
def test_a_picture_that_ffmpeg_does_not_decode_is_refused_with_what_to_do(
    name: str, mode: str, options: dict[str, Any], tmp_path: Path
) -> None:
    IMAGE.convert(mode).save(tmp_path / name, **options)
    with pytest.raises(UnreadableSample, match="can be decoded; if it is whole, convert it to PNG or JPEG"):
        probe(tmp_path / name)


def test_tiles_are_one_picture_in_a_dialog() -> None:
    assert pixels_of(FIXTURES / "tiles.avif").shape == (256, 256, 3)


def test_a_large_jpeg_is_upright_and_one_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    photo, cut = tmp_path / "photo.jpg", tmp_path / "cut.jpg"
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    PIL.Image.fromarray(noise).save(photo, exif=exif, subsampling=0)
    assert photo.stat().st_size > 32_000  # FFmpeg takes large files for another format than small ones.
    cut.write_bytes(photo.read_bytes()[:40_000])
    with PIL.Image.open(photo) as picture:
        upright = np.asarray(PIL.ImageOps.exif_transpose(picture).convert("RGB")).astype(int)
    assert (probe(photo).width, probe(photo).height) == (200, 300)
    assert np.abs(decode_frames(photo, [0])[0] - upright).max() <= 4
    with pytest.raises(UnreadableSample):
        decode_frames(cut, [0])


@pytest.mark.parametrize("exif", [b"II*\0", b"II+\0\x08\0\0\0", b"no EXIF"])
def test_a_picture_whose_metadata_alone_is_damaged_stays_as_it_is_stored(exif: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.webp"
    IMAGE.save(file, lossless=True, exif=exif)
    assert (pixels_of(file) == COLOURS).all()
    assert (decode_frames(file, [0])[0] == COLOURS).all()


@pytest.mark.parametrize("name", ["data:a.png", "pipe:0.jpg", "a_%d.jpg", "a\nb ü.jpg"])
def test_a_name_is_never_an_address_or_a_pattern(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    IMAGE.save("a_1.jpg")
    PALETTE.convert("RGB").resize((32, 32)).save(name)
    assert decode_frames(Path(name), [0]).shape == (1, 32, 32, 3)
