"""Pictures and frames are those of transformers' processor, bit for bit or within its own rounding.

transformers has two: on torchvision, which published models name and which resizes bytes as we do, and on Pillow, which
it takes without torchvision. The two differ from each other as far as is allowed here: by up to two levels of 255, and
by a fiftieth of a level on average, for a few sizes by a fifth.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from transformers.image_utils import load_image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

from cosmos_core.data import Video
from cosmos_core.data.chat import read_image
from cosmos_vlm.chat_template import RenderedChat
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.vision import fit_video, frame_pairs, frames_of, tower_patches

LIMITS = PixelLimits(image=(16_384, 1_048_576), video=(4_096, 262_144))
SETTINGS: Any = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SIZE = {"shortest_edge": LIMITS.image[0], "longest_edge": LIMITS.image[1]}
LEVEL = 1 / 127.5
TURNED = PIL.Image.Exif()
TURNED[0x112] = 6


def photo(width: int, height: int, coarse: int = 8) -> PIL.Image.Image:
    """Noise of that many pixels, enlarged; 1 is bare noise."""
    shape = (height // coarse + 1, width // coarse + 1, 3)
    noise = np.random.default_rng(width * height).integers(0, 256, shape, dtype=np.uint8)
    return PIL.Image.fromarray(noise).resize((width, height), PIL.Image.Resampling.BICUBIC)


PHOTO = photo(301, 177)
ALPHA = PHOTO.copy()
ALPHA.putalpha(photo(301, 177).convert("L"))
DEEP = np.asarray(PHOTO.convert("L")).astype(np.uint16) * 0x101
PICTURES: dict[str, tuple[PIL.Image.Image, dict[str, Any]]] = {
    "photo.png": (PHOTO, {}),
    "noise.png": (photo(301, 177, 1), {}),
    "fits.png": (photo(192, 128, 1), {}),
    "tiny.png": (photo(17, 31), {}),
    "large.jpg": (photo(1777, 1333), {"quality": 95}),
    "long.png": (photo(1201, 33), {}),
    "high.png": (photo(40, 3000), {}),
    "grey.png": (PHOTO.convert("L"), {}),
    "alpha.png": (ALPHA, {}),
    "palette.png": (PHOTO.quantize(64), {}),
    "turned.jpg": (PHOTO, {"exif": TURNED}),
    "cmyk.jpg": (PHOTO.convert("CMYK"), {}),
    "16 bits.png": (PIL.Image.fromarray(DEEP), {}),
}
ROUGH = ("long.png", "turned.jpg")


def prepared(path: Path) -> tuple[torch.Tensor, list[int]]:
    """The tower's rows and the grid."""
    rendered = RenderedChat()
    rendered.add_media(read_image(path), LIMITS)
    pairs = frame_pairs(rendered.grids, rendered.num_frames)
    return tower_patches(rendered.patches[0], pairs, torch.float32), list(rendered.grids[0])


def shown(path: Path) -> PIL.Image.Image:
    """As transformers opens it; of 16 bits it would keep the lowest levels alone."""
    return PHOTO.convert("L").convert("RGB") if path.name == "16 bits.png" else load_image(str(path))


@pytest.mark.parametrize("name", PICTURES)
def test_pixels_are_those_of_the_processor(name: str, tmp_path: Path) -> None:
    image, options = PICTURES[name]
    image.save(tmp_path / name, **options)
    rows, grid = prepared(tmp_path / name)
    expected = Qwen2VLImageProcessorPil(size=SIZE, **SETTINGS)(shown(tmp_path / name), return_tensors="pt")
    assert [grid] == expected["image_grid_thw"].tolist()
    away = (rows - expected["pixel_values"]).abs() / LEVEL
    assert float(away.max()) < (1e-3 if name == "fits.png" else 2.001)
    assert float(away.mean()) < (0.2 if name in ROUGH else 0.02)
    if find_spec("torchvision") is not None:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

        expected = Qwen2VLImageProcessor(size=SIZE, **SETTINGS)(shown(tmp_path / name), return_tensors="pt")
        torch.testing.assert_close(rows, expected["pixel_values"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [(2, 720, 1280), (32, 1080, 1920), (5, 20, 31), (6, 63, 25), (6, 21, 683), (3, 31, 9)],
)
def test_clips_have_the_sizes_of_the_processor(frames: int, height: int, width: int) -> None:
    limits = PixelLimits().video
    expected = smart_resize(frames, height, width, 2, 32, *limits)
    assert fit_video(frames, height, width, *limits) == expected


@pytest.mark.parametrize(("count", "width", "height"), [(4, 128, 96), (5, 211, 100), (1, 64, 60)])
def test_frames_are_resized_as_pictures_are(count: int, width: int, height: int) -> None:
    stored = np.stack([np.asarray(photo(width, height + number))[:height] for number in range(count)])
    rendered = RenderedChat()
    seconds = tuple(number / 2 for number in range(count))
    rendered.add_media(Video(torch.from_numpy(stored).permute(3, 0, 1, 2), seconds), LIMITS)
    rows, columns = fit_video(max(count, 2), height, width, *LIMITS.video)
    frames = frames_of(rendered.patches[0], rendered.grids[0]).permute(0, 2, 3, 1).numpy()
    for frame, before in zip(frames, stored, strict=True):
        expected = PIL.Image.fromarray(before).resize((columns, rows), PIL.Image.Resampling.BICUBIC)
        away = np.abs(frame.astype(int) - np.asarray(expected).astype(int))
        assert away.max() <= 2
        assert away.mean() < 0.2
