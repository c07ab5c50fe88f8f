"""The encoder of the Wan 2.2 VAE over parts of clips of any length, with the layers of diffusers.

diffusers encodes four frames at a time, which leaves an accelerator half idle in the deep layers. All layers are causal
in time, so a part may as well be whole clips; latents differ by rounding alone. What lies between the convolutions is
compiled, for any size at once; the convolutions themselves are the library's, and nothing can be fused into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify
from torch.nn import functional

from cosmos_vfm.tokenizer.video import TEMPORAL, normalise

__all__ = ["WanEncoder", "batches_and_parts"]

TIME = 2
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of dimensions."""
LOOK_BACK = 2
"""Frames before a frame that a convolution of 3 x 3 x 3 reads."""


def batches_and_parts(clips: int, frames: int, pixels: int, limit: int) -> tuple[int, list[slice]]:
    """Into how many nearly equal batches `clips` are divided, and the frames of each part of a batch.

    pixels: of a frame. limit: of pixels at once, the two frames before a part among them. Whole clips share it; a clip
    of more is divided in time: 1 + 4n frames, then multiples of four, at least four whatever the limit is.
    """
    together = limit // ((frames + LOOK_BACK) * pixels)
    if together:
        return -(-clips // together), [slice(0, frames)]
    groups, groups_at_once = (frames - 1) // TEMPORAL, max(1, (limit // pixels - 1 - LOOK_BACK) // TEMPORAL)
    count = max(1, -(-groups // groups_at_once))
    ends = [1 + TEMPORAL * (groups * number // count) for number in range(1, count + 1)]
    return clips, [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


class WanEncoder:
    """uint8 clips to the mean of the posterior, at most `limit` pixels at once.

    vae: AutoencoderKLWan of diffusers. Its encoder is changed in place: channels are stored last, as tensor cores read
    them.
    """

    def __init__(self, vae: Any, limit: int) -> None:
        self.vae, self.limit = vae, limit
        self._pointwise = _Pointwise()
        for weight in vae.encoder.parameters():
            if weight.ndim in CHANNELS_LAST:
                weight.data = weight.data.contiguous(memory_format=CHANNELS_LAST[weight.ndim])

    def compile(self) -> None:
        """Compile what lies between the convolutions."""
        self._pointwise = _Pointwise(
            activate=torch.compile(_activate, dynamic=True),
            activate_biased=torch.compile(_activate_biased, dynamic=True),
            add=torch.compile(_add, dynamic=True),
        )

    def __call__(self, videos: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, 1 + 4n, H, W] -> [B, 48, 1 + n, H / 16, W / 16] in the dtype of the weights."""
        clips, _, frames, height, width = videos.shape
        batches, parts = batches_and_parts(clips, frames, height * width, self.limit)
        latents = []
        for batch in videos.tensor_split(batches):
            kept: list[torch.Tensor] | None = None
            of_parts = []
            for part in parts:
                past = _Past(self._pointwise, kept, keeps=part is not parts[-1])
                of_parts.append(self._encode(batch[:, :, part], past))
                kept = past.kept
            latents.append(torch.cat(of_parts, dim=TIME))
        return torch.cat(latents)

    def _encode(self, pixels: torch.Tensor, past: _Past) -> torch.Tensor:
        encoder = self.vae.encoder
        x = patchify(normalise(pixels).to(self.vae.dtype), self.vae.config.patch_size)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        x = _convolve(encoder.conv_in, past.join(x, LOOK_BACK), encoder.conv_in.bias)
        for block in encoder.down_blocks:
            x = _down(block, x, past)
        first, last = encoder.mid_block.resnets
        x = _residual(last, encoder.mid_block.attentions[0](_residual(first, x, past)), past)
        x = _convolve(encoder.conv_out, past.activate(encoder.norm_out, x), encoder.conv_out.bias)
        mean: torch.Tensor = self.vae.quant_conv(x).chunk(2, dim=1)[0]
        return mean


def _activate(x: torch.Tensor, gamma: torch.Tensor, out: torch.Tensor) -> None:
    """SiLU of the norm over channels, into `out`. x, out: [B, positions, C]."""
    normed = functional.normalize(x.float(), dim=-1).to(x.dtype)
    out.copy_(functional.silu(normed * len(gamma) ** 0.5 * gamma.flatten()))


def _activate_biased(x: torch.Tensor, bias: torch.Tensor, gamma: torch.Tensor, out: torch.Tensor) -> None:
    _activate(x + bias, gamma, out)


def _add(x: torch.Tensor, bias: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    return x + bias + shortcut


@frozen
class _Pointwise:
    """What lies between the convolutions. Their biases are added here, as cuDNN would take another pass for them."""

    activate: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] = _activate
    activate_biased: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None] = _activate_biased
    add: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = _add


class _Past:
    """Frames before a part. kept: the last frames of the input of each layer that looks back, in the layers' order."""

    def __init__(self, pointwise: _Pointwise, before: Sequence[torch.Tensor] | None, *, keeps: bool) -> None:
        """before: what the part before kept. keeps: whether another part follows, which needs the same of this one."""
        self.pointwise, self._keeps = pointwise, keeps
        self._before: Iterator[torch.Tensor] | None = None if before is None else iter(before)
        self.kept: list[torch.Tensor] = []

    @property
    def is_empty(self) -> bool:
        """Whether this is the first part."""
        return self._before is None

    def keep(self, x: torch.Tensor, count: int) -> None:
        """Keep the last `count` frames for the next part, if there is one."""
        if self._keeps:
            self.kept.append(x[:, :, -count:].clone())

    def join(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """`x` with the `count` frames before it, which are zeros before a clip."""
        if self._before is None:
            x = functional.pad(x, (0, 0, 0, 0, count, 0))
        else:
            x = torch.cat([next(self._before), x], dim=TIME)
        self.keep(x, count)
        return x

    def activate(self, norm: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """`x` plus the bias, normed and activated, with the frames before it; written where the convolution reads."""
        clips, channels, frames, height, width = x.shape
        joined = x.new_empty(clips, frames + LOOK_BACK, height, width, channels).movedim(-1, 1)
        joined[:, :, :LOOK_BACK] = 0 if self._before is None else next(self._before)
        out = _rows(joined[:, :, LOOK_BACK:].movedim(1, -1))
        if bias is None:
            self.pointwise.activate(_rows(_channels_last(x)), norm.gamma, out)
        else:
            self.pointwise.activate_biased(_rows(_channels_last(x)), bias, norm.gamma, out)
        self.keep(joined, LOOK_BACK)
        return joined


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    """[B, T, H, W, C]; a copy only where a layer of diffusers returned another order, as for one frame."""
    return x.movedim(1, -1).contiguous()


def _rows(x: torch.Tensor) -> torch.Tensor:
    """[B, positions, C] of the same memory. Not known as a view: the compiler guards on the shape of what is viewed."""
    return x.view(len(x), -1, x.shape[-1]).data


def _convolve(layer: Any, joined: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A causal convolution of 3 x 3 x 3 over frames with those before them. It pads in space itself, without a copy."""
    return functional.conv3d(joined, layer.weight, bias, padding=(0, 1, 1))


def _residual(block: Any, x: torch.Tensor, past: _Past) -> torch.Tensor:
    hidden = _convolve(block.conv1, past.activate(block.norm1, x))
    hidden = _convolve(block.conv2, past.activate(block.norm2, hidden, block.conv1.bias))
    hidden, shortcut = _channels_last(hidden), _channels_last(block.conv_shortcut(x))
    return past.pointwise.add(_rows(hidden), block.conv2.bias, _rows(shortcut)).view_as(hidden).movedim(-1, 1)


def _down(block: Any, x: torch.Tensor, past: _Past) -> torch.Tensor:
    shortcut = block.avg_shortcut(x)
    for resnet in block.resnets:
        x = _residual(resnet, x, past)
    if block.downsampler is not None:
        x = _downsample(block.downsampler, x, past)
    return x + shortcut


def _downsample(layer: Any, x: torch.Tensor, past: _Past) -> torch.Tensor:
    """Half of height and width; for `downsample3d` half of the frames after a clip's first, too."""
    clips, _, frames = x.shape[:3]
    x = layer.resample(x.transpose(1, TIME).flatten(0, 1)).unflatten(0, (clips, frames)).transpose(1, TIME)
    if layer.mode != "downsample3d":
        return x
    if not past.is_empty:
        halved: torch.Tensor = layer.time_conv(past.join(x, 1))
        return halved
    past.keep(x, 1)
    return torch.cat([x[:, :, :1], layer.time_conv(x)], dim=TIME) if frames > 1 else x
