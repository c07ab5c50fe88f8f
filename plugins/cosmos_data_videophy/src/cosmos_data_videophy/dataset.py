"""The `videophy2` dataset: a manifest, conversations and videos in one folder a split (docs/data.md, VideoPhy-2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.data import Chat, MapSource, Message, UnreadableSample, Video
from cosmos_core.data.chat import MediaReader, read_video, to_chat
from cosmos_core.data.text_files import as_utf8
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.manifest import read_manifest
from cosmos_data_videophy.scoring import is_no_rating

__all__ = ["VideophySource"]


class VideophySource(MapSource):
    """Chat records, in the manifest's order."""

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

    def key(self, index: int) -> str:
        """The entry's id."""
        return self._entries[index][0]

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Entry `index`. Raises UnreadableSample."""
        key, media, conversation = self._entries[index]
        row = {**_row(conversation), "videos": [self._video(media)]}
        chat = to_chat(row, key, str(conversation), MediaReader())
        _check_rating(chat.messages, conversation)
        return chat

    @property
    def categories(self) -> Mapping[str, str]:
        """Of the manifest, by key."""
        return self._categories

    def _video(self, path: Path) -> Video:
        if path in self._decoded:
            return self._decoded[path]
        video = read_video(path, self.config.target_fps, self.config.max_frames)
        if self.config.cache_decoded:
            self._decoded[path] = video
        return video


def _row(conversation: Path) -> dict[str, Any]:
    try:
        content = json.loads(as_utf8(conversation.read_bytes()), object_hook=_unnamed)
    except OSError:
        raise UnreadableSample(str(conversation), "file is missing") from None
    except UnicodeDecodeError as error:
        raise UnreadableSample(str(conversation), error.reason) from None
    except ValueError:
        raise UnreadableSample(str(conversation), "not JSON") from None
    return content if isinstance(content, dict) else {"conversations": content}


def _unnamed(block: dict[str, Any]) -> dict[str, Any]:
    """A video block stands for the entry's video, whatever it calls it."""
    return {"type": "video"} if block.get("type") == "video" else block


def _check_rating(messages: Sequence[Message], conversation: Path) -> None:
    """Raises UnreadableSample when the last answer is a number but not a rating. Words such as yes and no pass."""
    answers = [message for message in messages if message.role == "assistant"]
    text = "".join(part for part in answers[-1].content if isinstance(part, str)).strip() if answers else ""
    if is_no_rating(text):
        raise UnreadableSample(str(conversation), f"the rating {text} is not 1 to 5")
