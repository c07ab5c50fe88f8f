"""What both sides of a comparison of losses train on: clips for the generator, dialogs for the reasoner."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch.nn.functional import interpolate

from cosmos_core.data import Chat, Image, Item, Message, Video
from cosmos_vfm.batch import Prepared
from cosmos_vfm.packing import SequenceSpec
from cosmos_vlm.chat_processor import IGNORE_INDEX, ChatProcessor, TokenizedConversation

__all__ = ["Clips", "Dialogs"]


@frozen
class Clips:
    """`distinct` clips with captions of their own, drawn again and again with new noise, `pack` of them in a step.

    sizes: of latents, (frames, height, width), in turn. text: tokens of captions, in turn. A few of each, as cuDNN
    makes a plan for each length that it meets, which takes longer than a step.
    """

    sizes: tuple[tuple[int, int, int], ...]
    text: tuple[int, ...]
    distinct: int
    pack: int
    vocab: int

    def items(self, step: int) -> list[Item]:
        """What the loader gives at `step`."""
        first = step * self.pack
        return [
            Item(position, self._prepared(position % self.distinct)) for position in range(first, first + self.pack)
        ]

    def _prepared(self, index: int) -> Prepared:
        """Latents that are smooth but for a third of noise, and up to two clean frames."""
        random, shape = torch.Generator().manual_seed(index), self.sizes[index % len(self.sizes)]
        ids = torch.randint(0, self.vocab, (self.text[index % len(self.text)],), generator=random)
        coarse = interpolate(torch.randn(1, 48, 2, 3, 4, generator=random), shape, mode="trilinear")[0]
        latents = 1.5 * coarse + torch.randn(48, *shape, generator=random) / 3
        return Prepared(f"clip {index}", latents, SequenceSpec(tuple(ids.tolist()), shape, 24.0, index % 3))


@frozen
class Dialogs:
    """Dialogs with text, a picture or a video in turn, `pack` of them in a step.

    There are `distinct` of them, as pictures take long to prepare. Answers are new in every step, so that none can be
    learned by heart, and follow a rule that can: after a token comes one of `FOLLOWERS` others. text: fewest and most
    characters of an answer. picture: height and width. video: frames, height and width.
    """

    text: tuple[int, int]
    picture: tuple[int, int]
    video: tuple[int, int, int]
    distinct: int
    pack: int

    def prepared(self, processor: ChatProcessor) -> list[TokenizedConversation]:
        """All of them."""
        return [processor.encode(self._chat(index)) for index in range(self.distinct)]

    def members(self, step: int, prepared: Sequence[TokenizedConversation]) -> list[TokenizedConversation]:
        """The pack at `step`."""
        first = step * self.pack
        return [_answered(prepared[position % self.distinct], position) for position in range(first, first + self.pack)]

    def _chat(self, index: int) -> Chat:
        random = torch.Generator().manual_seed(index)
        length = int(torch.randint(self.text[0], self.text[1] + 1, (1,), generator=random))
        frames, *size = self.video
        media: tuple[Image | Video, ...] = ()
        if index % 3 == 1:
            media = (Image(torch.randint(0, 256, (3, *self.picture), generator=random, dtype=torch.uint8)),)
        elif index % 3 == 2:
            pixels = torch.randint(0, 256, (3, frames, *size), generator=random, dtype=torch.uint8)
            media = (Video(pixels, tuple(frame / 4 for frame in range(frames))),)
        user = Message("user", (*media, "what is it?"))
        return Chat(f"dialog {index}", (user, Message("assistant", ("x" * length,))))


TOKENS, FOLLOWERS = 64, 4
"""That answers are made of, and how many of them may follow each."""


def _answered(dialog: TokenizedConversation, position: int) -> TokenizedConversation:
    """With an answer of its own."""
    followers = torch.randint(0, TOKENS, (TOKENS, FOLLOWERS), generator=torch.Generator().manual_seed(0)).tolist()
    learned = dialog.labels != IGNORE_INDEX
    choices = torch.randint(0, FOLLOWERS, (int(learned.sum()),), generator=torch.Generator().manual_seed(position))
    answer = [position % TOKENS]
    for choice in choices.tolist():
        answer.append(followers[answer[-1]][choice])
    ids, labels = dialog.ids.clone(), dialog.labels.clone()
    ids[learned] = labels[learned] = torch.tensor(answer[1:])
    return evolve(dialog, ids=ids, labels=labels)
