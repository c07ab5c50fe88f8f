"""Frames on one sheet."""

from __future__ import annotations

import torch

from cosmos_core.train.contact_sheet import contact_sheet

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def test_frames_of_a_sheet_have_white_lines_between_them() -> None:
    sheet = contact_sheet([torch.zeros(3, 8, 10, dtype=torch.uint8)] * 4, count=4, columns=2, side=32)
    corners = [sheet.getpixel((x, y)) for x in (0, sheet.width - 1) for y in (0, sheet.height - 1)]
    assert corners == [BLACK] * 4
    assert sheet.getpixel((sheet.width // 2, 0)) == sheet.getpixel((0, sheet.height // 2)) == WHITE
    one = contact_sheet([torch.zeros(3, 8, 10, dtype=torch.uint8)], count=4, columns=2, side=32)
    assert one.size == (10, 8)
