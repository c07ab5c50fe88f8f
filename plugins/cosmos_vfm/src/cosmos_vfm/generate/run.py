"""Generates the clips of a job, in one or several processes."""

from __future__ import annotations

import logging
import time

import torch
from attrs import frozen

from cosmos_core.config import disabled_plugins
from cosmos_core.console import progress
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.plugin import PluginManager
from cosmos_vfm.generate.clips import Clip
from cosmos_vfm.generate.job import ConfiguredSource, Job
from cosmos_vfm.generate.media import condition_of
from cosmos_vfm.generate.model import Generator, load
from cosmos_vfm.generate.outputs import Result, append_result, write_clip
from cosmos_vfm.ranks import Rank, spawn_ranks
from cosmos_vfm.sampling import SampleRequest, SolverSettings

__all__ = ["generate_all", "generate_share"]

logger = logging.getLogger(__name__)

GIB = 2**30


def generate_all(job: Job, plugins: PluginManager) -> None:
    """Write every clip of the job, of every source. Raises the first UserError of a process."""
    if job.nproc == 1:
        generate_share(job, Rank.of(), plugins)
    else:
        spawn_ranks(_generate_rank, job, job.nproc, group=job.one_clip)


def _generate_rank(job: Job, rank: Rank) -> None:
    generate_share(job, rank, PluginManager.discover(disabled_plugins()))


def generate_share(job: Job, rank: Rank, plugins: PluginManager) -> None:
    """The clips of this rank: every `rank.count`-th, or its part of each."""
    try:
        for number, configured in enumerate(job.sources):
            missing = [clip for clip in job.clips if (clip.index, configured.label) not in job.done]
            clips = missing if job.one_clip else missing[rank.number :: rank.count]
            if not clips:
                continue
            adapters = job.adapters if number == 0 else ()
            generator = load(configured, job, rank.device, plugins, adapters=adapters)
            generator.network.context = rank.context
            turn = _Turn(job, rank, configured, generator, several=len(job.sources) > 1)
            for clip in clips:
                turn.generate(clip)
            del generator, turn
            if rank.device.type == "cuda":
                torch.cuda.empty_cache()
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(error, job) from None


def _out_of_memory(error: Exception, job: Job) -> UserError:
    hints = ["take smaller --size or fewer --frames"]
    hints += [] if job.offload else ["pass --offload, which keeps the layers in host memory"]
    hints += [] if job.one_clip else ["pass --nproc N --one-clip, which divides a clip among devices"]
    problem = Problem(message=first_line(error), hint="; or ".join(hints))
    return UserError("the memory of the device is not enough; clips that are finished are kept", [problem])


@frozen
class _Turn:
    """One source on one rank. several: whether other sources generate the same clips."""

    job: Job
    rank: Rank
    configured: ConfiguredSource
    generator: Generator
    several: bool

    def generate(self, clip: Clip) -> None:
        """Make a clip and write it with its line of results."""
        device, label = self.rank.device, self.configured.label
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        begun = time.perf_counter()
        task = f"{clip.name}, {clip.index + 1} of {len(self.job.clips)}" + (f", {label}" if self.several else "")
        with progress(task, clip.steps, "steps", shown=self.rank.number == 0) as sampling:
            videos = self.generator.family.clips(
                self.generator.network, [self._request(clip)], limit=self.job.limit, on_step=sampling.advance
            )
            video = next(iter(videos))
        if self.job.one_clip and self.rank.number:
            return
        name = f"{clip.name}_{label}" if self.several else clip.name
        file = write_clip(self.job.output, name, video, clip.fps)
        seconds = round(time.perf_counter() - begun, 3)
        append_result(self.job.output, self._result(clip, file, seconds))
        logger.info("wrote %s in %.1f s", self.job.output / file, seconds)

    def _request(self, clip: Clip) -> SampleRequest:
        given = self.job.conditions.get(clip.index)
        return SampleRequest(
            caption=clip.text,
            frames=clip.frames,
            height=clip.height,
            width=clip.width,
            fps=clip.fps,
            condition=condition_of(clip) if given is None else given,
            negative=clip.negative,
            seed=clip.seed,
            solver=SolverSettings(clip.steps, clip.guidance, clip.shift, clip.interval),
        )

    def _result(self, clip: Clip, file: str, seconds: float) -> Result:
        device = self.rank.device
        peak = round(torch.cuda.max_memory_allocated(device) / GIB, 2) if device.type == "cuda" else None
        planned = self.job.planned[clip.index, self.configured.label]
        return {"file": file, **planned, "seconds": seconds, "peak_gib": peak}
