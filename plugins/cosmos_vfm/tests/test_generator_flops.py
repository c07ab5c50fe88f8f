"""Model FLOPs of the generator: what torch counts in a layer, and the published size by hand."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch.utils.flop_counter import FlopCounterMode

from cosmos_core.optim import select_trainable
from cosmos_core.train import Backward
from cosmos_vfm.flops import backward_of_towers, training_flops
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.rope import rotation
from cosmos_vfm.network.sequences import JointSequences
from cosmos_vfm.sizes import MODEL_SIZES

FROZEN_TEXT = Backward.NONE, Backward.WEIGHTS


@pytest.mark.parametrize("size", ["tiny", "tiny_edge"])
@pytest.mark.parametrize(("keys", "backward"), [(("moe_gen",), FROZEN_TEXT), ((), (Backward.WEIGHTS,) * 2)])
def test_linear_layers_cost_what_torch_counts(
    size: str, keys: tuple[str, ...], backward: tuple[Backward, Backward]
) -> None:
    text, latents = (5, 9), (12, 20)
    model = Cosmos3Network(evolve(MODEL_SIZES[size], layers=2))
    select_trainable(model, keys)
    layer, config = model.layers[0], model.config
    sequences, streams, rotations = JointSequences.of(text, latents), [], []
    for tokens in (sum(text), sum(latents)):
        streams.append(torch.randn(tokens, config.hidden, requires_grad=True))
        rotations.append(rotation(torch.zeros(3, tokens), config.head_dim, config.rope_theta, torch.float32))
    counter = FlopCounterMode(display=False)
    with counter:
        outputs = layer(*streams, *rotations, model.attention_backend(sequences), not keys)
        sum(output.sum() for output in outputs if output.requires_grad).backward()
    counts = counter.get_flop_counts()["Global"]
    counted = sum(flops for operator, flops in counts.items() if str(operator) in {"aten.mm", "aten.addmm"})
    q = config.heads * config.head_dim
    causal = 2 * q * sum(length**2 for length in text) * backward[0].attention
    joint = 4 * q * sum(own * (own + other) for own, other in zip(latents, text, strict=True)) * 3.5
    expected = training_flops(evolve(config, layers=1), text, latents, backward) - causal - joint
    assert counted == expected
    assert backward_of_towers(model) == backward


def test_a_pack_of_the_published_size_costs_what_is_worked_out_by_hand() -> None:
    """45,056 tokens in 17 clips: a frozen tower of text once, the other three times, attention three and a half."""
    nano, text, latents = MODEL_SIZES["nano"], [1210] * 17, [1440] * 17
    matrices = 4096 * (2 * 4096 + 2 * 1024 + 3 * 12288)
    linear = 36 * 2 * matrices * 17 * (1210 + 3 * 1440)
    attention = 36 * 17 * 4096 * (2 * 1210**2 + 3.5 * 4 * 1440 * 2650)
    assert training_flops(nano, text, latents, FROZEN_TEXT) == pytest.approx(linear + attention)


def test_adapters_send_gradients_through_weights_that_stay() -> None:
    text, latents = [100], [200]
    tiny = MODEL_SIZES["tiny"]
    costs = [training_flops(tiny, text, latents, (Backward.NONE, kind)) for kind in Backward]
    assert costs == sorted(costs)
    assert costs[2] - costs[1] == 2 * tiny.layers * 160 * (2 * 192 + 2 * 64 + 3 * 448) * 200
