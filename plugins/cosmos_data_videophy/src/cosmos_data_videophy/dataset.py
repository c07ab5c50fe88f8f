"""The `videophy2` dataset: a manifest, conversations and videos in one folder a split (docs/data.md, VideoPhy-2)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_core.data import Answer, Chat, MapSource, Message, UnreadableSample, Video
from cosmos_core.data.video import Probe, decode_chosen
from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import contained
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.scoring import figures, is_no_grade, read, write_report

__all__ = ["VideophySource", "chosen_frames"]

logger = logging.getLogger(__name__)


class VideophySource(MapSource):
    """Chat records, in the manifest's order; it scores ratings."""

    scores = True

    def __init__(self, config: VideophyConfig) -> None:
        self.config = config
        self.root = Path(config.path) / f"videophy2_{config.split}"
        self._decoded: dict[Path, Video] = {}
        manifest = self.root / "meta.json"
        content = _content(manifest)
        self._content = content
        self._entries, self._categories = _manifest(content, manifest, self.root)

    def __len__(self) -> int:
        return len(self._entries)

    @cached_property
    def fingerprint(self) -> str:
        """Split, samples, their order and what is said in them."""
        digest = sha256(self._content)
        for _, _, conversation in self._entries:
            # One that is missing is an unreadable sample, which says so when its turn comes.
            digest.update(conversation.read_bytes() if conversation.is_file() else b"missing")
        return f"{len(self)} samples of videophy2_{self.config.split} ({digest.hexdigest()[:12]})"

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Entry `index`. Raises UnreadableSample."""
        key, media, conversation = self._entries[index]
        clip = self._clip(media)
        try:
            read = json.loads(conversation.read_text(encoding="utf-8"))
            said = read["conversations"] if isinstance(read, dict) else read
            turns = tuple(Message(turn["role"], _parts(turn["content"], clip)) for turn in said)
        except OSError:
            raise UnreadableSample(str(conversation), "file is missing") from None
        except (ValueError, KeyError, TypeError):
            raise UnreadableSample(str(conversation), "not a conversation") from None
        _check_rating(turns, conversation)
        return Chat(key, turns)

    def score(self, answers: Sequence[Answer], folder: Path) -> dict[str, float]:
        """Accuracy, error and rank correlation of the ratings; ``answers.jsonl`` and ``confusion.png``.

        unscored: how many answers had no rating to be compared with, when there are any.
        """
        rated, others = read(answers, self._categories)
        found = {}
        if rated:
            write_report(rated, folder)
            found = figures(rated)
        if others:
            message = "%d of %d answers are not scored: the data has no rating from 1 to 5 there; the first is %s"
            logger.warning(message, len(others), len(answers), others[0])
            found["unscored"] = float(len(others))
        return found

    def _clip(self, path: Path) -> Video:
        if not self.config.cache_decoded:
            return self._decode(path)
        if path not in self._decoded:
            self._decoded[path] = self._decode(path)
        return self._decoded[path]

    def _decode(self, path: Path) -> Video:
        frames, seconds = decode_chosen(path, partial(self._chosen, path))
        return Video(torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous(), seconds)

    def _chosen(self, path: Path, found: Probe) -> list[int]:
        if not found.frames:
            raise UnreadableSample(str(path), "no frames")
        return chosen_frames(found.frames, float(found.fps), self.config.target_fps, self.config.max_frames)


def chosen_frames(count: int, fps: float, target_fps: float, most: int) -> list[int]:
    """Frame numbers at about `target_fps`; when that is too many, `most` of them, spread evenly."""
    wanted = range(0, count, max(1, round(fps / target_fps)))
    if len(wanted) <= most:
        return list(wanted)
    return [wanted[round(place)] for place in np.linspace(0, len(wanted) - 1, most)]


def _parts(content: Any, clip: Video) -> tuple[str | Video, ...]:
    """Texts and, in the place of the video block, the clip; plain strings are one text."""
    if isinstance(content, str):
        return (content,)
    return tuple(clip if block["type"] == "video" else str(block["text"]) for block in content)


def _check_rating(turns: Sequence[Message], where: Path) -> None:
    """Raises UnreadableSample when the last answer is a number but no rating; words, as yes and no, are left alone."""
    said = [turn for turn in turns if turn.role == "assistant"]
    text = "".join(part for part in said[-1].content if isinstance(part, str)).strip() if said else ""
    if is_no_grade(text):
        raise UnreadableSample(str(where), f"the rating {text} is not 1 to 5")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UserError(f"no such file: {path}; nothing was started") from None


def _manifest(content: bytes, path: Path, root: Path) -> tuple[list[tuple[str, Path, Path]], dict[str, str]]:
    """Key, video and conversation of every entry, and the category of those that have one.

    Raises UserError for a bad manifest, or paths outside the split.
    """
    try:
        entries = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); nothing was started") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} must hold a list of entries, and not an empty one; nothing was started")
    problems: list[Problem] = []
    found: list[tuple[str, Path, Path]] = []
    categories: dict[str, str] = {}
    for number, entry in enumerate(entries):
        try:
            key = str(entry.get("id") or entry["key"])
            media, conversation = (contained(root / entry[name], root) for name in ("media", "conversation"))
        except (KeyError, TypeError, AttributeError):
            problems.append(Problem(message=f"entry {number} lacks id, media or conversation", file=str(path)))
            continue
        except ValueError as error:
            problems.append(Problem(message=f"entry {number}: {error}", file=str(path)))
            continue
        found.append((key, media, conversation))
        if entry.get("category"):
            categories[key] = str(entry["category"])
    if problems:
        raise UserError(f"{len(problems)} bad entries in {path}; nothing was started", problems[:10])
    return found, categories
