"""The `videophy2` dataset: a manifest, conversations and videos in one folder a split (docs/data.md, VideoPhy-2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.config import TypicalSample
from cosmos_core.data import Chat, MapSource, Message, UnreadableSample, Video
from cosmos_core.data.chat import MediaReader, dimensions_of_video, read_video, to_chat
from cosmos_core.data.lengths import tokens_of
from cosmos_core.strict_json import loads
from cosmos_core.text_files import as_utf8
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

    def dimensions(self, index: int) -> TypicalSample:
        """Of entry `index`, from the video's header."""
        _, media, conversation = self._entries[index]
        reader = MediaReader(target_fps=self.config.target_fps, max_frames=self.config.max_frames)
        return dimensions_of_video(media, reader, tokens_of(str(_row(conversation))))

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
        content = _unnamed(loads(as_utf8(conversation.read_bytes())))
    except FileNotFoundError:
        raise UnreadableSample(str(conversation), "file is missing") from None
    except OSError as error:
        raise UnreadableSample(str(conversation), f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UnreadableSample(str(conversation), error.reason) from None
    except JSONDecodeError:
        raise UnreadableSample(str(conversation), "not JSON") from None
    except ValueError as error:
        raise UnreadableSample(str(conversation), str(error)) from None
    return content if isinstance(content, dict) else {"conversations": content}


def _unnamed(value: Any) -> Any:
    """The value, in which a video block stands for the entry's video, whatever it calls it."""
    if isinstance(value, list):
        return [_unnamed(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {"type": "video"} if value.get("type") == "video" else {name: _unnamed(part) for name, part in value.items()}


def _check_rating(messages: Sequence[Message], conversation: Path) -> None:
    """Raises UnreadableSample when the last answer is a number but not a rating. Words such as yes and no pass."""
    answers = [message for message in messages if message.role == "assistant"]
    text = "".join(part for part in answers[-1].content if isinstance(part, str)).strip() if answers else ""
    if is_no_rating(text):
        raise UnreadableSample(str(conversation), f"the rating {text} is not 1 to 5")
