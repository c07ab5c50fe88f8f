"""The `videophy2` dataset: a manifest, conversations and videos in one folder a split (docs/data.md, VideoPhy-2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_core.data import Answer, Chat, MapSource, Message, UnreadableSample, Video
from cosmos_core.data.video import Timeline, decode_chosen
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.manifest import read_manifest
from cosmos_data_videophy.scoring import is_no_rating, metrics, rate, write_report

__all__ = ["VideophySource", "frame_numbers"]

logger = logging.getLogger(__name__)


class VideophySource(MapSource):
    """Chat records, in the manifest's order. Scores ratings."""

    scores = True

    def __init__(self, config: VideophyConfig) -> None:
        self.config = config
        self._decoded: dict[Path, Video] = {}
        manifest = read_manifest(config)
        self._content, self._entries, self._categories = manifest.content, manifest.entries, manifest.categories

    def __len__(self) -> int:
        return len(self._entries)

    @cached_property
    def fingerprint(self) -> str:
        """Split, samples, their order and their conversations."""
        digest = sha256(self._content)
        for _, _, conversation in self._entries:
            # A missing one becomes an unreadable sample when it is loaded.
            digest.update(conversation.read_bytes() if conversation.is_file() else b"missing")
        return f"{len(self)} samples of videophy2_{self.config.split} ({digest.hexdigest()[:12]})"

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Entry `index`. Raises UnreadableSample."""
        key, media, conversation = self._entries[index]
        video = self._video(media)
        try:
            content = json.loads(conversation.read_text(encoding="utf-8"))
            entries = content["conversations"] if isinstance(content, dict) else content
            messages = tuple(Message(entry["role"], _message_content(entry["content"], video)) for entry in entries)
        except OSError:
            raise UnreadableSample(str(conversation), "file is missing") from None
        except (ValueError, KeyError, TypeError):
            raise UnreadableSample(str(conversation), "not a conversation") from None
        _check_rating(messages, conversation)
        return Chat(key, messages)

    def score(self, answers: Sequence[Answer], folder: Path) -> dict[str, float]:
        """Accuracy, error and rank correlation of the ratings; ``ratings.jsonl`` and ``confusion.png``.

        unscored: number of answers without a rating in the data to compare with; only if there are any.
        """
        rated, unscored = rate(answers, self._categories)
        values = {}
        if rated:
            write_report(rated, folder)
            values = metrics(rated)
        if unscored:
            message = "%d of %d answers are not scored: the data has no rating from 1 to 5 there; the first is %s"
            logger.warning(message, len(unscored), len(answers), unscored[0])
            values["unscored"] = float(len(unscored))
        return values

    def _video(self, path: Path) -> Video:
        if not self.config.cache_decoded:
            return self._decode(path)
        if path not in self._decoded:
            self._decoded[path] = self._decode(path)
        return self._decoded[path]

    def _decode(self, path: Path) -> Video:
        frames, seconds = decode_chosen(path, self._frame_numbers)
        return Video(torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous(), seconds)

    def _frame_numbers(self, timeline: Timeline) -> list[int]:
        return frame_numbers(timeline.frames, float(timeline.fps), self.config.target_fps, self.config.max_frames)


def frame_numbers(count: int, fps: float, target_fps: float, max_frames: int) -> list[int]:
    """Frame numbers at about `target_fps`; if these are too many, `max_frames` of them, spread evenly."""
    frames = range(0, count, max(1, round(fps / target_fps)))
    if len(frames) <= max_frames:
        return list(frames)
    return [frames[round(index)] for index in np.linspace(0, len(frames) - 1, max_frames)]


def _message_content(content: Any, video: Video) -> tuple[str | Video, ...]:
    """Texts, and the video in place of the video block. A plain string is one text."""
    if isinstance(content, str):
        return (content,)
    return tuple(video if block["type"] == "video" else str(block["text"]) for block in content)


def _check_rating(messages: Sequence[Message], conversation: Path) -> None:
    """Raises UnreadableSample when the last answer is a number but not a rating. Words such as yes and no pass."""
    answers = [message for message in messages if message.role == "assistant"]
    text = "".join(part for part in answers[-1].content if isinstance(part, str)).strip() if answers else ""
    if is_no_rating(text):
        raise UnreadableSample(str(conversation), f"the rating {text} is not 1 to 5")
