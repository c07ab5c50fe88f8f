"""Generation compared with diffusers' pipeline with compiled blocks: ``python -m tests.benchmarks.generate_vfm``.

One clip from noise to latents: guidance, a negative prompt as long as that of the base models' owners, no video
tokenizer. Both sides share one copy of random weights in the shape of nano. Latents are compared first; if they differ,
nothing is timed. ``--smoke`` runs the same code with small sizes on any machine. ``--profile`` shows the dearest
kernels of ours. ``--offload CAP`` measures ours alone, with layers on the host, under an allocator that is capped to so
many GB: one clip, after two steps that warm up. ``--steps`` takes another number than the shape's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen
from diffusers import AutoencoderKLWan, Cosmos3OmniPipeline, Cosmos3OmniTransformer, UniPCMultistepScheduler
from transformers import AutoTokenizer

from cosmos_core.config import ActivationCheckpointing, Compile, ModelConfig
from cosmos_vfm.checkpoints.diffusers_config import native_scheduler, to_diffusers_config
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.generate.offload import offload
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.parallel import parallelize_layers
from cosmos_vfm.sampling import SampleRequest, SolverSettings, sample_latents
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from cosmos_vfm.tokenizer import TextTokens
from cosmos_vfm.tokenizer.block_dct import BlockDct
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from tests.benchmarks.running import fill
from tests.benchmarks.timing import GIB, clear, peak_gib, profiled, show, synchronise
from tests.tiny_reasoner import write_tokenizer

__all__ = ["main"]

BOUND = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Relative difference of latents. In bfloat16 roundings add up over the steps."""
WARM_UP = 2
"""Steps of the sampler before a clip with layers on the host is measured: shapes are those of all steps."""


@frozen
class Shape:
    """text, negative: tokens of the prompts, ends included."""

    width: int
    height: int
    frames: int
    steps: int
    text: int
    negative: int

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.width}x{self.height}x{self.frames}, {self.steps} steps"

    @property
    def request(self) -> SampleRequest:
        """With texts that `_Numbers` turns into so many tokens."""
        solver = SolverSettings(self.steps, 6.0, 10.0)
        sizes = (self.frames, self.height, self.width)
        return SampleRequest(str(self.text), *sizes, 24.0, negative=str(self.negative), seed=1, solver=solver)


SHAPES = {
    "256p": Shape(320, 192, 93, 35, 300, 2834),
    "480p": Shape(832, 480, 93, 35, 300, 2834),
    "smoke": Shape(96, 64, 17, 4, 20, 200),
}


class _Numbers:
    """CaptionEncoder: a number becomes so many random tokens, less the two at the end."""

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab

    def chat_ids(self, caption: str) -> list[int]:
        generator = torch.Generator().manual_seed(int(caption))
        ids: list[int] = torch.randint(0, self.vocab, (int(caption) - 2,), generator=generator).tolist()
        return ids

    def decode(self, ids: list[int]) -> str:
        return str(len(ids) + 2)


class Contenders:
    """Ours, and the pipeline over the same weights."""

    def __init__(self, network: NetworkConfig, device: torch.device, *, compiled: bool) -> None:
        self.device = device
        self.dtype = _dtype(device)
        with torch.device("meta"):
            model = Cosmos3Network(network).to(self.dtype)
        fill(model.to_empty(device=device))
        self.model = model.eval().requires_grad_(False)
        self.pipeline = self._pipeline(network, compiled)
        off = ActivationCheckpointing(mode="none")
        parallelize_layers(model.layers, ModelConfig(compile=Compile(enabled=compiled), activation_checkpointing=off))
        self.text = TextTokens(_Numbers(network.vocab), 1, 2)

    def _pipeline(self, network: NetworkConfig, compiled: bool) -> Cosmos3OmniPipeline:
        config = {key: value for key, value in to_diffusers_config(network).items() if not key.startswith("_")}
        with torch.device("meta"):
            theirs = Cosmos3OmniTransformer(**config)
        for name, value in self.model.named_parameters():
            owner, _, leaf = to_diffusers(name).rpartition(".")
            theirs.get_submodule(owner).register_parameter(leaf, torch.nn.Parameter(value.data, requires_grad=False))
        rotary = type(theirs.rotary_emb)(network.head_dim, network.rope_theta, config["rope_axes_dim"])
        theirs.rotary_emb = rotary.to(self.device)
        if compiled:
            for layer in theirs.layers:
                layer.compile()
        scheduler = {key: value for key, value in native_scheduler(10.0).items() if not key.startswith("_")}
        pipeline = Cosmos3OmniPipeline(
            transformer=theirs.eval(),
            text_tokenizer=_tokenizer(),
            vae=AutoencoderKLWan(**{**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8}).to(self.device),
            scheduler=UniPCMultistepScheduler(**scheduler),
            enable_safety_checker=False,
            default_use_system_prompt=False,
            use_native_flow_schedule=True,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def ours(self, shape: Shape) -> torch.Tensor:
        """Latents."""
        return _latents(self.model, shape, self.text, self.device)

    def theirs(self, shape: Shape) -> torch.Tensor:
        """The same from the pipeline."""
        request = shape.request
        ids = [list(self.text.ids(text, 10**6)) for text in (request.caption, request.negative)]
        self.pipeline.tokenize_prompt = lambda *_, **__: ids
        noise = np.random.RandomState(request.seed).standard_normal((1, 48, *request.shape))
        video = self.pipeline(
            "",
            num_frames=request.frames,
            height=request.height,
            width=request.width,
            fps=request.fps,
            num_inference_steps=request.solver.steps,
            guidance_scale=request.solver.guidance,
            latents=torch.tensor(noise, dtype=torch.float32, device=self.device),
            output_type="latent",
        ).video
        return torch.as_tensor(video).reshape(48, *request.shape)


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _latents(model: Cosmos3Network, shape: Shape, text: TextTokens, device: torch.device) -> torch.Tensor:
    """Of one clip, by ours."""
    clips = sample_latents(model, [shape.request], text=text, video_tokenizer=BlockDct(), device=device, limit=10**6)
    return next(iter(clips))


def _on_host(network: NetworkConfig, device: torch.device) -> Cosmos3Network:
    """A network in host memory. Its layers have the weights of the first, drawn on the device; the head has none."""
    with torch.device("meta"):
        model = Cosmos3Network(network).to(_dtype(device))
    language = model.language_model
    language.lm_head.to_empty(device="cpu")  # Nothing reads it, so it takes no memory either.
    resident = (language.model.embed_tokens, language.model.norm, language.model.norm_moe_gen)
    for part in (*resident, model.time_embedder, model.vae2llm, model.llm2vae, model.layers[0]):
        fill(part.to_empty(device=device))
        part.to("cpu")
    first = dict(model.layers[0].named_parameters())
    for layer in model.layers[1:]:
        layer.to_empty(device="cpu")  # Memory that nobody touches is not taken.
        for name, value in layer.named_parameters():
            value.data = first[name].data
    return model.eval().requires_grad_(False)


def _tokenizer() -> Any:
    """One that the pipeline can be built with; it is never asked."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        return AutoTokenizer.from_pretrained(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--shapes", nargs="+", default=["256p", "480p"], choices=[*SHAPES])
    parser.add_argument("--layers", type=int, default=MODEL_SIZES["nano"].layers)
    parser.add_argument("--repeats", type=int, default=2, help="not with --offload, which measures one clip")
    parser.add_argument("--steps", type=int, help="of the sampler; absent: those of the shape")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--offload", type=float, metavar="CAP")
    options = parser.parse_args()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"device: {card}; torch {torch.__version__}", flush=True)
    network, names = evolve(MODEL_SIZES["nano"], layers=options.layers), options.shapes
    if options.smoke:
        network, names = evolve(MODEL_SIZES["tiny"], heads=4, kv_heads=2, head_dim=128, layers=2), ["smoke"]
    shapes = [evolve(SHAPES[name], steps=options.steps or SHAPES[name].steps) for name in names]
    if options.offload is not None:
        _streamed(network, shapes, device, options.offload)
        return
    contenders = Contenders(network, device, compiled=not options.smoke)
    for shape in shapes:
        _compare(contenders, shape, options.repeats, card)
        if options.profile:
            profiled(lambda shape=shape: contenders.ours(shape), shape.name)
        clear()


def _compare(contenders: Contenders, shape: Shape, repeats: int, card: str) -> None:
    found, expected = contenders.ours(shape), contenders.theirs(shape)  # These calls compile, too.
    difference = float((found - expected).norm() / expected.norm())
    print(f"{shape.name}: latents differ by {difference:.2e}", flush=True)
    if not difference < BOUND[contenders.dtype]:
        raise SystemExit("the latents differ too much; nothing was timed")
    sides = {"cosmos": contenders.ours, "diffusers": contenders.theirs}
    peaks: dict[str, float] = {}
    seconds: dict[str, list[float]] = {who: [] for who in sides}
    for _ in range(repeats):
        for who, side in (*sides.items(), *reversed(sides.items())):
            peaks[who] = peak_gib(lambda who=who, side=side: seconds[who].append(_seconds(lambda: side(shape))))
    medians = {who: statistics.median(values) for who, values in seconds.items()}
    rows = [
        {
            "contender": who,
            "seconds": medians[who],
            "peak GiB": peaks[who],
            "times diffusers": medians["diffusers"] / medians[who],
            "device": card,
        }
        for who in sides
    ]
    show(f"generation, {shape.name}", rows)


def _streamed(network: NetworkConfig, shapes: list[Shape], device: torch.device, cap: float) -> None:
    """One clip of each shape with the layers on the host. cap: GB that the allocator may take."""
    begun = time.perf_counter()

    def passed(what: str) -> None:
        print(f"  at {time.perf_counter() - begun:.1f} s: {what}", flush=True)

    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(cap * 1e9 / total, device)
    model, text = _on_host(network, device), TextTokens(_Numbers(network.vocab), 1, 2)
    clear()
    passed("weights filled")
    offload(model, device)
    passed(f"{sum(value.nbytes for value in model.layers.parameters()) / GIB:.1f} GiB of layers pinned")
    for shape in shapes:
        first = _seconds(lambda shape=shape: _latents(model, evolve(shape, steps=WARM_UP), text, device))
        passed(f"{WARM_UP} steps that warm up took {first:.1f} s")
        seconds: list[float] = []
        peak = peak_gib(
            lambda shape=shape, seconds=seconds: seconds.append(_seconds(lambda: _latents(model, shape, text, device)))
        )
        passed(f"{shape.name} took {seconds[0]:.1f} s")
        held = torch.cuda.max_memory_reserved(device) / GIB if device.type == "cuda" else 0.0
        row = {"layers": network.layers, "seconds": seconds[0], "peak GiB": peak, "reserved GiB": held, "cap GB": cap}
        show(f"generation with layers on the host, {shape.name}", [row])


def _seconds(step: Callable[[], Any]) -> float:
    synchronise()
    begun = time.perf_counter()
    step()
    synchronise()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
