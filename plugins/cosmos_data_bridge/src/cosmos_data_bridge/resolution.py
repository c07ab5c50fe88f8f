"""Resolution tiers: a tier and a clip's aspect ratio give the size it is trained at.

See docs/data.md, Resolution tiers.
"""

from __future__ import annotations

__all__ = ["TIERS", "aspect_bucket", "target_size"]

_BUCKETS = ((0.65, "9,16"), (0.88, "3,4"), (1.16, "1,1"), (1.55, "4,3"))

TIERS: dict[str, dict[str, tuple[int, int]]] = {
    "64": {"1,1": (64, 64), "4,3": (80, 64), "3,4": (64, 80), "16,9": (112, 64), "9,16": (64, 112)},
    "256": {"1,1": (256, 256), "4,3": (320, 256), "3,4": (256, 320), "16,9": (320, 192), "9,16": (192, 320)},
    "480": {"1,1": (640, 640), "4,3": (736, 544), "3,4": (544, 736), "16,9": (832, 480), "9,16": (480, 832)},
    "704": {"1,1": (960, 960), "4,3": (1088, 832), "3,4": (832, 1088), "16,9": (1280, 704), "9,16": (704, 1280)},
    "720": {"1,1": (960, 960), "4,3": (1104, 832), "3,4": (832, 1104), "16,9": (1280, 720), "9,16": (720, 1280)},
    "768": {"1,1": (1024, 1024), "4,3": (1184, 880), "3,4": (880, 1184), "16,9": (1360, 768), "9,16": (768, 1360)},
}
"""(width, height) in pixels by tier and aspect; the tier is a label ("256" at 16:9 is 320x192), "64" is the demo's.

There is no "1080": its 1920x1080 is no multiple of the video tokenizer's 16 pixels, and no Cosmos 3 model has it.
"""


def aspect_bucket(width: int, height: int) -> str:
    """Nearest of the five aspect ratios, as "w,h"."""
    ratio = width / height
    return next((name for limit, name in _BUCKETS if ratio < limit), "16,9")


def target_size(tier: str, width: int, height: int) -> tuple[int, int]:
    """(width, height) that a clip of this size is scaled and cropped to."""
    return TIERS[tier][aspect_bucket(width, height)]
