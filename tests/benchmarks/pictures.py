"""Pictures and clips a second on one core, beside plain transformers: ``python -m tests.benchmarks.pictures``.

Writes JPEG photographs of usual sizes with dialogs, and clips. Ours reads and prepares each sample as a loader worker
does. The peer opens the same picture and does what transformers' processor does with picture and text; on torchvision
where that is installed, else on Pillow. Turns in the order A B B A, all on one thread; the smaller processor time
counts. Then one worker feeds this process through the loader: processor time, and how long steps wait for their packs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.image_utils import load_image

from cosmos_core.config import DataloaderConfig
from cosmos_core.data import Chat, Message, MicroBatch, PackedLoader, Preparation
from cosmos_core.data.chat import MediaReader
from cosmos_core.data.video import write_mp4
from cosmos_core.distributed.host_memory import keep_freed_memory
from cosmos_core.train.ahead import drawn_ahead
from cosmos_core.train.parts import collated
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.llava_onevision import LlavaSource
from cosmos_vlm.family import VlmFamily
from tests.benchmarks.timing import show
from tests.benchmarks.whole_data import DialogSizes
from tests.benchmarks.whole_data import dialogs as dialog_rows
from tests.tiny_reasoner import PROCESSORS, family_of, write_reasoner

__all__ = ["main"]

SIZES = ((640, 480), (1000, 700), (620, 500), (480, 640), (800, 600), (1024, 768), (336, 448), (500, 375))
CLIPS, FRAMES, CLIP_SIZE, FPS = 4, 120, (640, 360), 30
PACK = 16_000
STEP, STEPS = 1.0, 7
"""Seconds, and how many of them."""
PIXELS = {"shortest_edge": 65_536, "longest_edge": 16_777_216}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=64)
    count: int = parser.parse_args().pictures
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = write_reasoner(folder / "backbone")
        settings = {**PROCESSORS["preprocessor_config.json"], "size": PIXELS, "image_mean": [0.5] * 3}
        (backbone / "preprocessor_config.json").write_text(json.dumps({**settings, "image_std": [0.5] * 3}))
        _write(folder / "data", count)
        family = family_of(backbone, image_min_pixels=PIXELS["shortest_edge"])
        config = LlavaConfig(type="llava_ov", path=str(folder / "data"))
        source = LlavaSource(config)
        pictures = [lambda: _ours(family, source, count), lambda: _plain(backbone, folder / "data", count)]
        _show(f"{count} pictures", "picture", count, *pictures)
        _clips(family, folder)
        _through_a_worker(family, source, config, count)


def _write(folder: Path, count: int) -> None:
    """Rows, and photographs: noise of several sizes of grain, one over the other."""
    folder.mkdir()
    (folder / "rows.json").write_text(json.dumps(dialog_rows(DialogSizes(count, 0, 0, question=18, answer=48))))
    for number in range(count):
        _photo(np.random.default_rng(number), *SIZES[number % len(SIZES)]).save(folder / f"{number}.jpg", quality=90)


def _photo(random: np.random.Generator, width: int, height: int) -> PIL.Image.Image:
    sum_of_grains = np.zeros((height, width, 3))
    for grain, weight in ((64, 1.0), (16, 0.5), (4, 0.25), (1, 0.03)):
        noise = random.integers(0, 256, (max(2, height // grain), max(2, width // grain), 3), dtype=np.uint8)
        enlarged = PIL.Image.fromarray(noise).resize((width, height), PIL.Image.Resampling.BICUBIC)
        sum_of_grains += weight * np.asarray(enlarged)
    return PIL.Image.fromarray((sum_of_grains / sum_of_grains.max() * 255).astype(np.uint8))


def _ours(family: VlmFamily, source: LlavaSource, count: int) -> int:
    """Prepare all; bytes of their tensors."""
    family.processor._cache.clear()
    dialogs = (family.prepare(source.get(number, np.random.default_rng(0))) for number in range(count))
    return sum(_bytes((dialog.ids, dialog.labels, dialog.positions, dialog.patches)) for dialog in dialogs)


def _plain(backbone: Path, data: Path, count: int) -> int:
    """The same by transformers' parts; bytes of their tensors."""
    processor: Any = AutoImageProcessor.from_pretrained(backbone)
    tokenizer: Any = AutoTokenizer.from_pretrained(backbone)
    total = 0
    for row in json.loads((data / "rows.json").read_text())[:count]:
        question, answer = (turn["value"].removeprefix("<image>\n") for turn in row["conversations"])
        shown = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": shown}, {"role": "assistant", "content": answer}]
        inputs = processor(images=[load_image(str(data / row["image"]))], return_tensors="pt")
        pad = "<|image_pad|>"
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        text = text.replace(pad, pad * (int(inputs["image_grid_thw"].prod()) // 4))
        inputs |= tokenizer(text, add_special_tokens=False, return_tensors="pt")
        total += _bytes(inputs.values())
    return total


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _clips(family: VlmFamily, folder: Path) -> None:
    """Read at two frames a second; the peer, without a processor, only decodes and converts as many frames."""
    width, height = CLIP_SIZE
    files = [folder / f"{number}.mp4" for number in range(CLIPS)]
    for number, file in enumerate(files):
        still = np.asarray(_photo(np.random.default_rng(number), width + FRAMES, height))
        write_mp4(file, np.stack([still[:, step : step + width] for step in range(FRAMES)]), FPS)
    reader = MediaReader(root=folder, folders=(folder,))

    def ours() -> int:
        chats = (Chat(file.name, (Message("user", (reader.video(file.name), "What?")), _ANSWER)) for file in files)
        return sum(_bytes((sample.ids, sample.patches)) for sample in map(family.prepare, chats))

    def plain() -> int:
        return sum(sum(array.nbytes for array in _decoded(file)) for file in files)

    _show(f"{CLIPS} clips of {FRAMES} frames, {width} x {height}", "clip", CLIPS, ours, plain, peer="PyAV, decode only")


_ANSWER = Message("assistant", ("A walk.",))


def _decoded(file: Path) -> Iterator[np.ndarray[Any, Any]]:
    import av

    with av.open(str(file)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number % (FPS // 2) == 0:
                yield frame.to_ndarray(format="rgb24")


def _show(title: str, unit: str, count: int, ours: Callable[[], int], plain: Callable[[], int], peer: str = "") -> None:
    """The better of two turns of each."""
    peer = peer or "plain transformers"
    used: dict[str, list[float]] = {"cosmos": [], peer: []}
    sizes: dict[str, int] = {}
    ours(), plain()
    for name, action in (("cosmos", ours), (peer, plain), (peer, plain), ("cosmos", ours)):
        begun = time.process_time()
        sizes[name] = action()
        used[name].append(time.process_time() - begun)
    rows = [
        {
            "way": name,
            f"{unit}s/s a core": count / min(seconds),
            f"ms a {unit}": 1e3 * min(seconds) / count,
            f"kB a {unit}": sizes[name] / count / 1e3,
            "times cosmos": min(seconds) / min(used["cosmos"]),
        }
        for name, seconds in used.items()
    ]
    show(title, rows)


def _through_a_worker(family: VlmFamily, source: LlavaSource, config: LlavaConfig, count: int) -> None:
    """Packs from one worker: processor time there and here, and of collation; then what steps wait."""
    section = DataloaderConfig(dataset=config, num_workers=1, max_sequence_length=PACK, max_samples_per_batch=None)
    preparation = Preparation(family.prepare, family.num_tokens, family.kind)
    loader = PackedLoader(source, config=section, preparation=preparation, rank=0, world=1, epochs=4)
    worker, here, collating, packs, samples = _of_children(), time.process_time(), 0.0, 0, 0
    for pack in loader:
        begun = time.process_time()
        family.collate(pack.items)
        collating += time.process_time() - begun
        packs, samples = packs + 1, samples + len(pack.items)
    here = time.process_time() - here - collating
    row = {
        "pictures a pack": samples / packs,
        "worker ms a picture": 1e3 * (_of_children() - worker) / samples,
        "taking it over, ms": 1e3 * here / samples,
        "collation, ms a pack": 1e3 * collating / packs,
        "wait ms a pack, when asked": _wait(collated(pack, family, 1) for pack in islice(loader, STEPS)),
        "wait ms a pack, drawn ahead": _wait(
            drawn_ahead((collated(pack, family, 1) for pack in islice(loader, STEPS)), ahead=1)
        ),
    }
    show(f"through one worker, in packs of {PACK} tokens, steps of {STEP} s", [row])


def _wait(packs: Iterator[MicroBatch]) -> float:
    """Median milliseconds until a pack is there, after a step without work for this process."""
    waits = []
    next(packs)
    while True:
        time.sleep(STEP)
        begun = time.perf_counter()
        if next(packs, None) is None:
            return 1e3 * statistics.median(waits)
        waits.append(time.perf_counter() - begun)


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
