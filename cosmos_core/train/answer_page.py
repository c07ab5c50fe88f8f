"""A page of answers: what the model was shown and asked, what it said, what the data says, sortable by each metric."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from attrs import field, frozen

from cosmos_core.data.samples import Answer
from cosmos_core.train.model_input import ModelInput

__all__ = ["Row", "pictures", "question", "write_page"]

TEMPLATE = Path(__file__).with_name("answers.html")
SIDE, MAX_FRAMES, MILLISECONDS = 256, 16, 500
"""Of pictures and clips in the page: longest side in pixels, frames of a clip, time that each is shown."""
_REPEATED = re.compile(r"(<[^<>\s]+>)\1+")
"""A token that stands for a part of a picture, again and again."""


@frozen(kw_only=True)
class Row:
    """An answer in the page. pictures: ``data:`` URLs. values: of metrics of this answer, None where it has none."""

    answer: Answer
    category: str = ""
    question: str = ""
    pictures: tuple[str, ...] = ()
    values: Mapping[str, float | None] = field(factory=dict)


def question(shown: ModelInput) -> str:
    """What people asked, or else the text that the model was given, without what it learns."""
    if shown.question:
        return shown.question
    text = "".join(text for text, learned in shown.text if not learned)
    return _REPEATED.sub(r"\1", text).strip()


def pictures(shown: ModelInput) -> tuple[str, ...]:
    """Each image as a ``data:`` URL, and each clip as a moving one."""
    return tuple(_data_url(list(_different(frames))) for frames in shown.media)


def _different(frames: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Without frames that repeat the one before; an image is stored as two frames where a model takes pairs."""
    before: torch.Tensor | None = None
    for frame in frames:
        if before is None or not torch.equal(frame, before):
            yield frame
        before = frame


def _data_url(frames: list[torch.Tensor]) -> str:
    from cosmos_core.train.contact_sheet import thumbnails  # Few runs write such a page, which needs Pillow.

    images, buffer = thumbnails(frames, MAX_FRAMES, SIDE), io.BytesIO()
    images[0].save(
        buffer, "WEBP", quality=80, method=2, save_all=len(images) > 1, append_images=images[1:],
        duration=MILLISECONDS, loop=0,
    )  # fmt: skip
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_page(
    path: Path, title: str, totals: Mapping[str, float], rows: Sequence[Row], errors: Collection[str]
) -> None:
    """Write one HTML file with everything in it. errors: metrics that are worse the larger they are."""
    from jinja2 import Environment

    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    template = Environment(autoescape=True, trim_blocks=False).from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(title=title, totals=totals, rows=rows, columns=columns, errors=sorted(errors))
    path.write_text(text, encoding="utf-8", errors="replace")
