"""Pictures of dialogs: upright, RGB, in 8 bits; and why one cannot be read."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from cosmos_core.data.files import stand_in
from cosmos_core.data.samples import Image
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video.orientation import PILLOW_ERRORS

__all__ = ["read_image"]

HEAD = 64
READ = re.compile(rb"\x89png|\xff\xd8\xff|gif8|ii[*+]\0|mm\0[*+]|riff....webp|....ftypavi[fs]", re.DOTALL)
"""Formats that Pillow reads, by the first bytes in small letters."""
DAMAGED = "image is damaged, or of a kind that Pillow does not read; if it is whole, convert it to PNG or JPEG"
UNREAD = {
    "HEIF": re.compile(rb"....ftyp(hei|mif1|msf1|hev)", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|....jxl ", re.DOTALL),
    "SVG": re.compile(rb"<svg|<\?xml"),
    "PDF": re.compile(rb"%pdf"),
    "a video": re.compile(rb"....ftyp|\x1ae\xdf\xa3", re.DOTALL),
}
"""Formats that Pillow does not read, by the same."""


def read_image(source: Path | bytes) -> Image:
    """An image, turned upright as its metadata says; grey of 16 bits is scaled to 8. Raises UnreadableSample."""
    where = "an embedded image" if isinstance(source, bytes) else str(source)
    try:
        with _opened(source, where) as image:
            image.load()
            _turn_upright(image)
            pixels = np.array(_rgb(_in_8_bits(image, where)))
    except FileNotFoundError:
        raise UnreadableSample(where, "image file is missing") from None
    except IsADirectoryError:
        raise UnreadableSample(where, "image path is that of a folder") from None
    except PIL.UnidentifiedImageError:
        raise UnreadableSample(where, _unknown(source)) from None
    except PILLOW_ERRORS as error:
        raise UnreadableSample(where, f"image cannot be read ({type(error).__name__})") from None
    file = None if isinstance(source, bytes) else str(source)
    return Image(torch.from_numpy(pixels).permute(2, 0, 1), file)


def _opened(source: Path | bytes, where: str) -> PIL.Image.Image:
    """Raises UnreadableSample for images that Pillow warns of, which would take gigabytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        try:
            return PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError):
            most = round((PIL.Image.MAX_IMAGE_PIXELS or 0) / 1e6)
            raise UnreadableSample(where, f"image has more than {most} million pixels") from None


def _turn_upright(image: PIL.Image.Image) -> None:
    """In place. One with damaged metadata stays as it is stored, as viewers show it."""
    with suppress(*PILLOW_ERRORS):
        PIL.ImageOps.exif_transpose(image, in_place=True)


def _unknown(source: Path | bytes) -> str:
    """Why Pillow does not read the image."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(HEAD)
    if not source:
        return "image is empty"
    if words := stand_in(source):
        return f"image is {words}"
    if READ.match(source[:HEAD].lower()):
        return DAMAGED
    head = source[:HEAD].lstrip().lower()
    name = next((name for name, pattern in UNREAD.items() if pattern.match(head)), None)
    return f"image cannot be read: it is {name or 'of a format that Pillow does not read'}; convert it to PNG or JPEG"


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Pillow would copy an image that has these colours already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_8_bits(image: PIL.Image.Image, where: str) -> PIL.Image.Image:
    """Pillow cuts what is above 255 when it converts grey of more than 8 bits."""
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")  # Straight to RGB, Pillow warns of each.
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image).astype(np.int64)
    if image.mode == "F" or levels.min() < 0 or levels.max() > 0xFFFF:
        bits = "floating point" if image.mode == "F" else "more than 16 bits"
        raise UnreadableSample(where, f"image has levels of {bits}; convert it to 8 or 16 bits")
    return PIL.Image.fromarray((levels / 0x101).round().astype(np.uint8))
