"""The dataset: an episode as a captioned clip."""

from dataclasses import replace
from hashlib import sha256

import numpy as np

from cosmos_core.data import MapSource, UnreadableSample, VideoText
from cosmos_core.data.video import ClipFile, probe
from lerobot_cosmos.config import LeRobot
from lerobot_cosmos.episodes import Episode, read_episodes


class EpisodeSource(MapSource):
    """VideoText records, one an episode."""

    def __init__(self, config: LeRobot) -> None:
        self.config = config
        self.episodes, self.fps = read_episodes(config)

    def __len__(self) -> int:
        return len(self.episodes)

    def key(self, index: int) -> str:
        """The episode's name."""
        return self.episodes[index].key

    @property
    def fingerprint(self) -> str:
        """Changes when an episode does; the folder may have another name."""
        facts = [(one.key, one.caption, one.video.name, one.first, one.frames) for one in self.episodes]
        return f"{len(facts)} episodes ({sha256(repr(facts).encode()).hexdigest()[:12]})"

    def get(self, index: int, random: np.random.Generator) -> VideoText:
        """Episode `index`, decoded."""
        sample = self.get_lazy(index, random)
        return replace(sample, video=sample.pixels())

    def get_lazy(self, index: int, random: np.random.Generator) -> VideoText:
        """The same with the frames left in the file, for a latent cache."""
        episode = self.episodes[index]
        self._check(episode)
        frames = 1 + (episode.frames - 1) // 4 * 4  # What the video tokenizer takes.
        last = episode.first + frames - 1
        clip = ClipFile(episode.video, episode.first, last, 1, (self.config.width, self.config.height))
        return VideoText(key=episode.key, video=clip, caption=episode.caption, fps=self.fps)

    def _check(self, episode: Episode) -> None:
        """The video must have the episode's frames, and show the first one when the dataset says."""
        timeline, end = probe(episode.video), episode.first + episode.frames
        if timeline.frames < end:
            promised = f"{episode.key} promises frames {episode.first} to {end - 1}"
            raise UnreadableSample(str(episode.video), f"{promised}, the file has {timeline.frames} frames")
        shown = timeline.seconds(episode.first)
        if abs(shown - episode.seconds) * self.fps > 0.5:
            reason = f"{episode.key} begins at {episode.seconds:.3f} s, frame {episode.first} is shown at {shown:.3f} s"
            raise UnreadableSample(str(episode.video), reason)
