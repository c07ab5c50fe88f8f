"""The page of `cosmos report`: what it shows of whole, failed and damaged runs, and how it looks in a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.data.video import write_mp4
from cosmos_core.report.page import write_own_report, write_report
from tests.browser import browser, look
from tests.unit.logged import logged
from tests.unit.report.run_folders import checkpoint, run_folder, step_record

DONE = {"outcome": "done", "step": 10}
TRUTH = "sample_00, ground truth"
INJECTED = '<script>window.injected = true</script><img src="x" onerror="window.injected = true">'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


def written(*runs: Path, output: Path | None = None, most_bytes: int | None = None) -> str:
    """The page of these runs as text."""
    output = output if output is not None else runs[0] / "report.html"
    write_report(runs, output, is_running=lambda paths: False, most_bytes=most_bytes)
    return output.read_text()


def with_samples(run: Path, caption: str = "a blue square") -> Path:
    """A run with clips, pictures and answers of three steps."""
    for step in (0, 5, 10):
        folder = run / f"Samples/step_{step:09d}"
        folder.mkdir(parents=True)
        frames = np.full((5, 64, 96, 3), 20 * step, np.uint8)
        write_mp4(folder / "sample_00.mp4", frames, 8.0)
        (folder / "sample_00.txt").write_text(caption)
        truth = run / "Samples/ground_truth"
        truth.mkdir(exist_ok=True)
        (truth / "sample_00.mp4").write_bytes((folder / "sample_00.mp4").read_bytes())
        (run / "Samples/index.html").write_text("<p>all samples")
        Image.new("RGB", (900, 120), "teal").save(run / f"Samples/step_{step:09d}.png")
        answers = run / f"validation/step_{step:09d}"
        answers.mkdir(parents=True)
        rows = [{"key": f"clip {n}", "prediction": caption, "reference": n} for n in range(40)]
        (answers / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_a_page_looks_right_in_a_browser_at_any_width(tmp_path: Path, chromium: Any) -> None:
    long = "settings.with_a_very_long_name_that_has_no_space_" * 6
    first = with_samples(run_folder(tmp_path, "first", outcome=DONE, info={"args_override": [long]}), INJECTED)
    second = run_folder(tmp_path, "second", rate=0.02, outcome={"outcome": "diverged", "error": f"loss is NaN {long}"})
    checkpoint(first, 10, size=3 * 2**20)
    page = tmp_path / "report.html"
    written(first, second, output=page)
    for seen in look(chromium, page).values():
        assert seen["overflow"] <= 0
        assert seen["images"] == [900, 900]
        assert seen["videos"] == [96, 96, 96]
        assert len(seen["charts"]) == 7
        assert min(seen["charts"]) > 300
        assert seen["scripts"] == 0
        for text in (
            "first",
            "second",
            "optimizer.lr",
            "0.02",
            "iter_000000010",
            "3.0 MiB",
            "loss is NaN",
            INJECTED,
            TRUTH,
        ):
            assert text in seen["text"], text


def test_text_of_users_stays_text(tmp_path: Path) -> None:
    run = with_samples(run_folder(tmp_path, INJECTED[:8], info={"cmd": INJECTED}), INJECTED)
    text = written(run)
    assert "<script" not in text
    assert "<img src=" not in text
    assert text.count("&lt;script&gt;") > 3


def test_a_run_that_failed_before_its_first_step_has_a_page(tmp_path: Path, chromium: Any) -> None:
    run = tmp_path / "early"
    run.mkdir()
    (run / "outcome.json").write_text(json.dumps({"outcome": "refused", "error": "no such file: clips.jsonl"}))
    (run / "logs").mkdir()
    (run / "logs/rank_0.log").write_text("opened\nno clips\n")
    text = written(run)
    for part in ("no such file: clips.jsonl", "No step was recorded", "no clips"):
        assert part in text
    for seen in look(chromium, run / "report.html").values():
        assert seen["overflow"] <= 0


def test_of_numbered_folders_only_the_newest_are_on_the_page(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    for number in (1, 2, 9, 10, 11):
        folder = run / f"generated/{number:03d}"
        folder.mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(folder / "clip_000.png")
    text = written(run)
    shown = [number for number in (1, 2, 9, 10, 11) if f'<p class="soft">generated/{number:03d}</p>' in text]
    assert shown == [9, 10, 11]


def test_damaged_rows_are_counted_and_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    losses = [None if step in (3, 4) else 1.0 / step for step in range(1, 11)]
    run = run_folder(tmp_path, records=[step_record(step, loss) for step, loss in enumerate(losses, 1)])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo\n[1]\n{"step": 12, "loss": "much", "val_loss": null}\n{"step": 13, "loss": NaN}\n')
    text = written(run)
    assert "2 damaged lines of metrics.jsonl skipped" in text
    assert 'aria-label="loss"' in text
    assert "nan" not in text.lower().replace("nano", "")


def test_samples_beyond_the_limit_are_linked_and_the_newest_are_inlined_first(tmp_path: Path) -> None:
    run = with_samples(run_folder(tmp_path))
    everything = written(run)
    assert everything.count('src="data:') == 5
    assert 'href="Samples/index.html"' in everything
    newest = sum(
        (run / f"Samples/{name}").stat().st_size for name in ("step_000000010.png", "step_000000010/sample_00.mp4")
    )
    text = written(run, output=tmp_path / "elsewhere/report.html", most_bytes=newest)
    assert text.count('src="data:') == 2
    assert text.count('src="../cosmos3/sft/first/Samples/step_000000000') == 2
    assert text.count('src="../cosmos3/sft/first/Samples/ground_truth') == 1
    assert "step 5" not in text


def test_what_was_left_out_by_reason_rollbacks_and_spikes_are_told(tmp_path: Path) -> None:
    left_out = {"training data": {"shorter than 61 frames": 17}, "validation data": {"cannot be decoded": 2}}
    back = {"from": 9, "to": 5, "why": "loss nan", "samples": 20, "left_out": "left_out_1.jsonl"}
    spike = {**step_record(11), "spike": 12.5}
    records = [*map(step_record, range(1, 11)), spike]
    text = written(run_folder(tmp_path, info={"left_out": left_out, "rollbacks": {"1": back}}, records=records))
    for part in ("shorter than 61 frames", ">17<", "cannot be decoded", ">2<"):
        assert part in text
    assert "<h3>Rollbacks</h3>" in text
    assert '>9</td><td class="number">5</td><td>loss nan</td><td class="number">20</td>' in text
    assert "launches/1/left_out_1.jsonl" in text
    assert "spikes: spreads above the median" in text


def test_a_hundred_thousand_steps_are_drawn_thin_and_quickly(tmp_path: Path) -> None:
    run = run_folder(tmp_path, records=(step_record(step, 1 + 0.5 * (step % 7)) for step in range(1, 100_001)))
    started = time.process_time()
    text = written(run)
    assert time.process_time() - started < 8  # 1.7 s on an idle machine.
    assert len(text) < 400_000


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    run = run_folder(tmp_path, outcome=DONE)
    write_own_report(run)
    assert "done" in (run / "report.html").read_text()
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    with logged() as lines:
        write_own_report(run)
    assert "report.html was not written" in lines[0]
