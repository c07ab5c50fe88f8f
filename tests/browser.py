"""Debian's Chromium, to look at pages as people do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Seen", "browser", "chromium_path", "look"]

WIDTHS = (400, 1600)
"""Pixels of a phone, and of a wide window."""
PATIENCE = 180_000
"""Milliseconds that a busy machine may take to start it, or to load a page."""
LOADED = """() => Promise.all([
  ...[...document.images].map(image => image.decode().catch(() => null)),
  ...[...document.querySelectorAll("video")].map(video => video.readyState >= 2 || video.error ? null :
    new Promise(done => { video.onloadeddata = done; video.onerror = done; })),
])"""
FACTS = """() => ({
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  images: [...document.images].map(image => image.naturalWidth),
  videos: [...document.querySelectorAll("video")].map(video => video.error ? 0 : video.videoWidth),
  charts: [...document.querySelectorAll("svg")].map(chart => chart.getBoundingClientRect().width),
  text: document.body.innerText,
  scripts: document.scripts.length,
})"""
Seen = dict[str, Any]


def chromium_path() -> str:
    """The program. Skips the test where there is none, but not where CI is set."""
    path = shutil.which("chromium")
    if path is None:
        assert not os.environ.get("CI"), "install chromium: this test looks at pages"
        pytest.skip("needs chromium (apt-get install chromium)")
    return path


@contextmanager
def browser() -> Iterator[Any]:
    """One Chromium; as `chromium_path` where there is none."""
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=PATIENCE)
        try:
            yield chromium
        finally:
            chromium.close()


def look(chromium: Any, page: Path) -> dict[int, Seen]:
    """What a page shows at each width. Fails for errors on its console, and for anything it fetches."""
    seen = {}
    view = chromium.new_page()
    view.set_default_timeout(PATIENCE)
    faults: list[str] = []
    view.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.on("requestfailed", lambda request: faults.append(f"failed: {request.url[:200]}"))
    view.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
    for width in WIDTHS:
        view.set_viewport_size({"width": width, "height": 900})
        view.goto(page.resolve().as_uri())
        view.evaluate(LOADED)
        seen[width] = view.evaluate(FACTS)
    view.close()
    assert not faults, faults
    return seen
