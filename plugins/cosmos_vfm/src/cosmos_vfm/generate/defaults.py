"""Settings that nobody gave, by model size and mode (docs/models/generator.md, Defaults of generation)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import evolve, frozen

from cosmos_vfm.config import Sampling

__all__ = ["NEGATIVE", "Defaults", "defaults_of"]


@frozen
class Defaults:
    """size: a resolution of the canvas table, or WIDTHxHEIGHT. negative: the text before its sentences.

    tells_duration, tells_size: whether prompts get duration and frame rate, and size.
    """

    size: str
    aspect: str
    frames: int
    fps: float
    steps: int
    guidance: float
    shift: float
    negative: str
    tells_duration: bool = True
    tells_size: bool = True


NEGATIVE = json.dumps(
    {
        "subjects": [
            {
                "description": "smeared, melted shapes whose outline changes from frame to frame",
                "appearance_details": "plastic skin, missing texture, doubled edges, colour bleeding",
                "pose": "bent the wrong way, limbs that merge, split or vanish",
                "action": "slides without weight, starts and stops without a cause, repeats in a loop",
                "state_changes": "grows, shrinks or turns into something else",
            },
            {
                "description": "objects that float, pass through each other or appear from nowhere",
                "appearance_details": "blurred, blocky, with wrong proportions",
                "action": "jitters in place",
            },
            {
                "description": "hands and faces with extra or fused parts",
                "appearance_details": "asymmetric eyes, unreadable features",
                "action": "frozen, or moving out of step with the body",
            },
        ],
        "background_setting": "a flat painted backdrop with visible seams that swims behind the subject",
        "lighting": {
            "conditions": "flickering exposure, blown highlights and crushed blacks",
            "shadows": "missing, detached or pointing in different directions",
        },
        "aesthetics": {
            "composition": "tilted, cropped through the subject",
            "color_scheme": "oversaturated, banded, shifting over time",
            "mood_atmosphere": "artificial",
        },
        "cinematography": {
            "camera_motion": "shaking, jumping, zooming without purpose",
            "framing": "unsteady",
            "depth_of_field": "everything out of focus",
        },
        "style_medium": "heavily compressed low-resolution footage with noise, ringing and macroblocks",
        "artistic_style": "cheap computer graphics, stickers, collage",
        "context": "a failed recording or rendering",
        "actions": [{"time": "throughout", "description": "stills in a row instead of motion; time jumps back"}],
        "text_and_signage_elements": [],
        "segments": [{"description": "the scene changes without a cut"}],
        "transitions": [],
        "temporal_caption": "ghosting, dropped and repeated frames; nothing continues what came before",
        "audio_description": "",
        "physical_realism": "no gravity, no contact, no inertia; liquids and cloth move like solids",
    }
)
"""A caption, in the structure of the base models' captions, of all that a video should not be."""

_VIDEO = Defaults("720", "16,9", 189, 24.0, steps=35, guidance=6.0, shift=10.0, negative=NEGATIVE)
_IMAGE = Defaults("720", "1,1", 1, 24.0, steps=50, guidance=4.0, shift=3.0, negative="")
_TINY = Defaults(
    "64x64", "1,1", 17, 5.0, 20, guidance=3.0, shift=3.0, negative="", tells_duration=False, tells_size=False
)
_SENTENCES = ("tells_duration", "tells_size")
_RECORDED = ("size", "frames", "fps", "steps", "guidance", "shift")
_BY_SIZE = {
    "tiny": (_TINY, evolve(_TINY, frames=1)),
    "tiny_even": (_TINY, evolve(_TINY, frames=1)),
    "tiny_edge": (_TINY, evolve(_TINY, frames=1)),
    "edge": (evolve(_VIDEO, size="480", frames=121, steps=50, guidance=5.0, shift=3.0), evolve(_IMAGE, size="480")),
}


def defaults_of(
    tier: str, sampling: Sampling, *, image: bool, recorded: Mapping[str, Any] = MappingProxyType({})
) -> Defaults:
    """Of a model size for videos, or for pictures. sampling: ``[model.sampling]``, which wins where a recipe set it.

    recorded: defaults that the weights carry, by name; they win. A picture takes the size alone, since the others are
    for videos. Sentences that training left out are left out, and never added where the model size has none.
    """
    video, picture = _BY_SIZE.get(tier, (_VIDEO, _IMAGE))
    own = {name: recorded[name] for name in (("size",) if image else _RECORDED) if name in recorded}
    own |= {name: getattr(video, name) and recorded.get(name, True) for name in _SENTENCES}
    if image:
        return evolve(picture, **own)
    plain = Sampling()
    tuned = evolve(
        video,
        steps=sampling.steps if sampling.steps != plain.steps else video.steps,
        guidance=sampling.guidance if sampling.guidance != plain.guidance else video.guidance,
        shift=sampling.shift if sampling.shift != plain.shift else video.shift,
    )
    return evolve(tuned, **own)
