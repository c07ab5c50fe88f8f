"""`cosmos generate` as a person uses it: any source, any input, and what it says when something is wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from PIL import Image
from safetensors.torch import save_file

from cosmos_core.data.video import check_decodes, decode_frames, write_mp4
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan import read_export
from cosmos_core.plugin import PluginManager
from cosmos_vfm.checkpoints.load import settings_of
from cosmos_vfm.config import Sampling, TextTokenizer
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.generate.clips import Settings, plan_clips
from cosmos_vfm.generate.job import ConfiguredSource, Job, configure_sources
from cosmos_vfm.generate.model import complete
from cosmos_vfm.generate.prompt_file import Row
from cosmos_vfm.generate.recorded import recorded_generation
from cosmos_vfm.generate.run import generate_all, generate_share
from cosmos_vfm.ranks import Rank, spawn_ranks
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos
from tests.tiny_generator import write_generator

PLUGINS = PluginManager.discover()
SHORT = ("--steps", "2", "--frames", "5", "--size", "32x32")
TRAINING = (
    "trainer.max_iter=2",
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[0]",
    "dataloader_train.max_samples_per_batch=2",
    "trainer.callbacks.every_n_draw_sample.count=1",
    "trainer.callbacks.every_n_draw_sample.steps=1",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published generator and its base, a run of adapters on the base with its export, and media."""
    root = tmp_path_factory.mktemp("generate")
    write_generator(root / "published", MODEL_SIZES["tiny"])
    write_generator(root / "edge", MODEL_SIZES["tiny_edge"])
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "2", "-o", str(root / "data"))
    cosmos("convert", str(root / "published"), "-o", str(root / "base"))
    start = ("model.init=pretrained", f"checkpoint.load_path={root / 'base'}", "model.lora_enabled=true")
    more = ("model.ema.enabled=false", 'optimizer.keys_to_select=["lora_"]', "checkpoint.strict_resume=false")
    command = ("run", "vision_sft_demo", "--output-root", str(root / "runs"), *TRAINING, *start, *more)
    cosmos(*command, 'checkpoint.keys_to_skip_loading=["net_ema.","lora_"]', env={"DATASET_PATH": str(root / "data")})
    cosmos("export", str(run_dir(root)), "--adapter", "-o", str(root / "adapter"))
    cosmos("export", str(run_dir(root)), "-o", str(root / "merged"))
    pixels = np.random.RandomState(0).randint(0, 256, (7, 48, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(root / "start.png")
    write_mp4(root / "start.mp4", pixels, 5.0)
    return root


def run_dir(place: Path) -> Path:
    return place / "runs/cosmos3/sft/vision_sft_demo"


def generated(source: Path, output: Path, *arguments: str, place: Path | None = None) -> list[dict[str, Any]]:
    environment = {"DATASET_PATH": str(place / "data")} if place is not None else {}
    done = cosmos("generate", str(source), "-o", str(output), "--json", *arguments, env=environment)
    printed = json.loads(done.stdout)
    assert printed["page"] == str(output / "index.html")
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == printed["results"]
    return lines


def refused(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    said = cosmos("generate", *arguments, env=env, code=2, cwd=cwd).stderr
    assert "Traceback" not in said
    return said


def frames_of(file: Path) -> np.ndarray[Any, Any]:
    if file.suffix == ".png":
        return np.array(Image.open(file))[None]
    return decode_frames(file, range(check_decodes(file).frames))


def test_prompts_become_clips_with_a_page_and_every_setting(place: Path, tmp_path: Path) -> None:
    prompts = ("-p", "a red ball", "-p", "größe <b>日本</b>")
    first, second = generated(place / "published", tmp_path / "out", *prompts, *SHORT, "--fps", "8", "--facts")
    assert (first["prompt"], first["seed"], second["seed"]) == ("a red ball", 0, 1)
    sentences = "The video is 0.6 seconds long and is of 8 FPS. This video is of 32x32 resolution."
    assert first["text"] == f"a red ball. {sentences}"
    assert first["negative_prompt"] == sentences
    assert (first["mode"], first["kind"], first["step"], first["steps"]) == ("text2video", "published", None, 2)
    timeline = check_decodes(tmp_path / "out" / first["file"])
    assert (timeline.frames, timeline.width, timeline.height) == (5, 32, 32)
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert 'src="clip_000.mp4"' in page
    assert "größe &lt;b&gt;日本&lt;/b&gt;" in page
    assert "http" not in page
    assert Image.open(tmp_path / "out/contact_sheet.png").width > 96
    again = generated(place / "published", tmp_path / "again", *prompts[:2], *SHORT, "--fps", "8", "--facts")[0]
    assert (tmp_path / "again" / again["file"]).read_bytes() == (tmp_path / "out" / first["file"]).read_bytes()


def test_images_and_videos_are_continued_and_their_crop_is_told(place: Path, tmp_path: Path) -> None:
    rows = (
        {"prompt": "a", "image": "start.png", "size": "64x64"},
        {"prompt": "b", "video": "start.mp4", "seed": 5, "size": "64x64"},
        {"prompt": "c", "frames": 1},
    )
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ("generate", str(place / "published"), "--prompts", str(place / "rows.jsonl"), "--steps", "2")
    done = cosmos(*command, "-o", str(tmp_path / "out"))
    assert f"{place / 'start.png'} is 96x48, the clip 64x64: scaled, and 50% of its width cut off" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [(line["mode"], line["condition_frames"], line["seed"]) for line in lines] == [
        ("image2video", 1, 0),
        ("video2video", 2, 5),
        ("text2image", 0, 2),
    ]
    assert lines[2]["file"] == "clip_002.png"
    assert frames_of(tmp_path / "out/clip_002.png").shape == (1, 64, 64, 3)


def test_sources_and_adapters_are_compared_from_the_same_noise(place: Path, tmp_path: Path) -> None:
    """A base with the exported adapter is the run that trained it, and its merged export."""
    run, base, merged = run_dir(place), place / "base", place / "merged"
    settings = ("-p", "a", *SHORT, "--vae", str(place / "published/vae"))
    compare = ("--compare", str(merged), "--compare", str(base))
    tokenizer = ("--text-tokenizer", str(place / "published/text_tokenizer"))
    lines = generated(run, tmp_path / "out", *settings, *compare, *tokenizer)
    assert [line["source"] for line in lines] == ["vision_sft_demo", "merged", "base"]
    assert [line["step"] for line in lines] == [2, None, None]
    clips = [frames_of(tmp_path / "out" / line["file"]).astype(int) for line in lines]
    assert np.abs(clips[0] - clips[1]).max() <= 8
    side_by_side = frames_of(tmp_path / "out/clip_000_compared.mp4")
    assert side_by_side.shape == (5, 32, 96, 3)
    assert "clip_000_compared.mp4" in (tmp_path / "out/index.html").read_text()
    folded = generated(base, tmp_path / "folded", *settings, "--adapter", str(place / "adapter"), *tokenizer)[0]
    strong = generated(base, tmp_path / "strong", *settings, "--adapter", f"{place / 'adapter'}@300", *tokenizer)[0]
    assert strong["adapters"] == [f"{place / 'adapter'}@300"]
    assert np.abs(frames_of(tmp_path / "folded" / folded["file"]) - clips[0]).max() <= 8
    assert np.abs(frames_of(tmp_path / "strong" / strong["file"]) - clips[2]).mean() > 1


def test_validation_data_gives_prompts_as_in_training_and_a_run_chooses_its_folder(place: Path) -> None:
    environment = {"DATASET_PATH": str(place / "data")}
    before_and_after = ("--weights", "fresh", "--compare", str(run_dir(place)))
    command = ("generate", str(run_dir(place)), *before_and_after, "--validation", "3", "--steps", "2", "--json")
    done = cosmos(*command, env=environment)
    assert "the validation data has only 2 readable samples, not 3; so many clips are made" in done.stderr
    results = json.loads(done.stdout)
    assert results["page"] == str(run_dir(place) / "generated/001/index.html")
    labels = [(result["source"], result["step"]) for result in results["results"]]
    assert labels == 2 * [("vision_sft_demo-start", None), ("vision_sft_demo", 2)]
    assert (first := results["results"][0])["text"] == first["prompt"]
    assert json.loads(first["prompt"])["background_setting"]
    assert (first["width"], first["height"], first["frames"]) == (64, 64, 17)
    assert 'src="clip_001_data.mp4"' in Path(results["page"]).read_text()


@pytest.mark.parametrize("way", [("--nproc", "3", "--one-clip"), ("--offload",)], ids=str)
def test_every_way_to_run_gives_the_same_clips(place: Path, tmp_path: Path, way: tuple[str, ...]) -> None:
    prompts = ("-p", "a", "-p", "b", *SHORT)
    plain = generated(place / "published", tmp_path / "plain", *prompts)
    other = generated(place / "published", tmp_path / "other", *prompts, *way)
    for one, two in zip(plain, other, strict=True):
        assert (one["clip"], one["seed"]) == (two["clip"], two["seed"])
        difference = frames_of(tmp_path / "plain" / one["file"]).astype(int) - frames_of(
            tmp_path / "other" / two["file"]
        )
        assert np.abs(difference).max() <= 8


def two_clips(place: Path, output: Path) -> Job:
    settings = Settings(steps=2, frames=5, size="32x32")
    clips = plan_clips([Row(prompt="a"), Row(prompt="b")], settings, tier="tiny", sampling=Sampling())
    job = Job(source=str(place / "published"), clips=tuple(clips), output=output)
    return evolve(job, sources=tuple(complete(source, PLUGINS) for source in configure_sources(job, PLUGINS)))


MORE_THAN_A_PIPE_HOLDS = tuple(Problem(message=f"clip {number} is broken") for number in range(5000))


def refuse_on_the_first(job: object, rank: Rank) -> None:
    if rank.number == 0:
        raise UserError("no clips", MORE_THAN_A_PIPE_HOLDS)
    time.sleep(300)


def test_an_error_of_one_rank_ends_those_that_wait_for_it() -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match="no clips") as caught:
        spawn_ranks(refuse_on_the_first, None, 2, group=True)
    assert caught.value.problems == MORE_THAN_A_PIPE_HOLDS
    assert time.monotonic() - begun < 250


def test_ranks_divide_the_clips(place: Path, tmp_path: Path) -> None:
    job = two_clips(place, tmp_path)
    generate_share(job, Rank(1, 2, torch.device("cpu")), PLUGINS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip_001.mp4", "results.jsonl"]
    generate_share(job, Rank(0, 2, torch.device("cpu")), PLUGINS)
    assert (tmp_path / "clip_000.mp4").is_file()
    assert [json.loads(line)["seed"] for line in (tmp_path / "results.jsonl").read_text().splitlines()] == [1, 0]


def test_all_that_is_wrong_with_the_clips_is_told_at_once(place: Path, tmp_path: Path) -> None:
    rows = (
        {"prompt": "a", "frames": 0},
        {"prompt": "b", "size": "100x64"},
        {"prompt": "c", "image": "none.png"},
        {"prompt": "d", "video": "start.mp4", "frames": 5},
        {"prompt": "e", "image": "start.png", "video": "start.mp4"},
        {"prompt": "f", "fps": 0.0004},
    )
    (place / "bad.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = refused(str(place / "published"), "--prompts", str(place / "bad.jsonl"), "-o", str(tmp_path / "out"))
    for number, words in enumerate(
        ("at least 1", "96x64", "no such file", "take at least 9", "continues one of them", "no frame rate"), 1
    ):
        assert f"bad.jsonl:{number}" in said
        assert words in said
    assert "--frames: is -3" in refused(str(place / "published"), "-p", "a", "--frames", "-3")
    (tmp_path / "noise.png").write_bytes(b"no picture")
    said = refused(str(place / "published"), "-p", "a", "--image", str(tmp_path / "noise.png"))
    assert "noise.png" in said
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_neither_is_told_what_was_looked_for(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "looked for a run" in refused(str(tmp_path / "empty"), "-p", "a")
    assert "did you mean" in refused("Cosmos3-Nanoo", "-p", "a") or "known:" in refused("nope", "-p", "a")
    assert "no such folder" in refused(str(tmp_path / "none"), "-p", "a")
    assert "export of adapters alone" in refused(str(place / "adapter"), "-p", "a")
    scheduler = place / "edge/scheduler/scheduler_config.json"
    kept = scheduler.read_text()
    scheduler.write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}')
    assert "distilled to four steps" in refused(str(place / "edge"), "-p", "a")
    scheduler.write_text(kept)


def test_prompts_come_from_one_place(place: Path) -> None:
    source = str(place / "published")
    assert "there is no prompt" in refused(source)
    assert "--prompt and --validation" in refused(source, "-p", "a", "--validation", "1")
    assert "stand in their file" in refused(source, "--validation", "1", "--image", str(place / "start.png"))
    assert "there is no validation data" in refused(source, "--validation", "1")
    assert "--recipe" in refused(source, "model.sampling.steps=3", "-p", "a")
    assert "cannot be read" in refused(source, "-p", "a", "--negative", "@nowhere.txt")


def test_a_prompt_over_the_limit_is_not_cut(place: Path, tmp_path: Path) -> None:
    long = "ball " * 1000
    said = refused(str(place / "published"), "-p", long, *SHORT)
    assert "the prompt of clip 0 has 50" in said
    assert "--max-prompt-tokens 50" in said
    lines = generated(place / "published", tmp_path / "o", "-p", long, *SHORT, "--max-prompt-tokens", "5100")
    assert lines[0]["prompt"] == long


def test_adapters_that_do_not_fit_are_named(place: Path, tmp_path: Path) -> None:
    adapter = str(place / "adapter")
    write_generator(tmp_path / "other", MODEL_SIZES["tiny"], seed=1)
    for base in (tmp_path / "other_base", place / "base"):
        if not base.exists():
            cosmos("convert", str(tmp_path / "other"), "-o", str(base))
        done = cosmos(
            "generate", str(base), "-p", "a", *SHORT, "--adapter", adapter, "-o", str(tmp_path / f"to_{base.name}")
        )
        told = f"was trained on {place / 'base/model'}; {base} holds other weights" in done.stderr
        assert told == (base.name == "other_base")
    command = ("-p", "a", *SHORT, "--text-tokenizer", "words")
    assert "holds no pytorch_lora_weights" in refused(str(place / "base"), *command, "--adapter", str(place / "data"))
    assert "its strength is nan" in refused(str(place / "base"), *command, "--adapter", f"{adapter}@nan")
    wide = {"transformer.layers.0.self_attn.add_q_proj.lora_A.weight": (4, 999)}
    wide["transformer.layers.0.self_attn.add_q_proj.lora_B.weight"] = (192, 4)
    (place / "wide").mkdir()
    tensors = {name: torch.zeros(shape) for name, shape in wide.items()}
    save_file(tensors, place / "wide/pytorch_lora_weights.safetensors")
    said = refused(str(place / "base"), *command, "--adapter", str(place / "wide"))
    assert "1 of its layers are not in the model or of another size" in said
    assert "with the base that it was trained on" in said


def test_missing_tokenizers_say_which_command_fetches_them(place: Path, tmp_path: Path) -> None:
    for name in ("vae", "text_tokenizer"):
        (place / "edge" / name).rename(tmp_path / name)
    try:
        said = refused(str(place / "edge"), "-p", "a")
    finally:
        for name in ("vae", "text_tokenizer"):
            (tmp_path / name).rename(place / "edge" / name)
    assert "cosmos checkpoints fetch Wan2.2-VAE -o examples/checkpoints/wan22_vae" in said
    assert "--vae examples/checkpoints/wan22_vae/Wan2.2_VAE.pth" in said
    assert "--text-tokenizer" in said
    assert "--recipe NAME" in said


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    said = refused("Cosmos3-Nano", "-p", "a", env=offline)
    assert "'Cosmos3-Nano' cannot be fetched" in said
    assert "check the network" in said


def test_out_of_memory_says_what_to_lower_and_keeps_what_is_done(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips_of, done = VfmFamily.clips, []

    def once(*arguments: Any, **more: Any) -> Any:
        if done:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        done.append(1)
        return clips_of(*arguments, **more)

    monkeypatch.setattr(VfmFamily, "clips", once)
    with pytest.raises(UserError, match="memory of the device is not enough") as caught:
        generate_all(two_clips(place, tmp_path), PLUGINS)
    problem = caught.value.problems[0]
    assert problem.message == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert all(word in problem.hint for word in ("--size", "--frames", "--offload", "--one-clip"))
    assert (tmp_path / "clip_000.mp4").is_file()
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def configured(source: Path, *overrides: str, **more: Any) -> ConfiguredSource:
    return complete(configure_sources(Job(source=str(source), overrides=overrides, **more), PLUGINS)[0], PLUGINS)


def test_an_export_and_its_run_have_the_same_defaults_and_overrides_win(place: Path) -> None:
    record = read_export(place / "merged")
    assert record is not None
    run, export = configured(run_dir(place)), configured(place / "merged")
    assert (record.generation["size"], record.generation["steps"], record.generation["tier"]) == ("64", 20, "tiny")
    assert run.generation == export.generation == record.generation
    assert configured(place / "merged", "model.sampling.steps=3").generation["steps"] == 3
    assert configured(place / "base").generation == {}


def test_an_export_of_a_base_says_the_defaults_of_its_size(place: Path, tmp_path: Path) -> None:
    cosmos("export", str(place / "base"), "-o", str(tmp_path / "export"))
    record = read_export(tmp_path / "export")
    assert record is not None
    assert [record.generation[name] for name in ("tier", "steps", "guidance")] == ["tiny", 20, 3.0]
    own = configured(tmp_path / "export").model
    assert own.tokenizer.vae_path == str(tmp_path / "export/vae")
    assert own.text_tokenizer.path == str(tmp_path / "export/text_tokenizer")
    gone = evolve(own, text_tokenizer=TextTokenizer(path=str(tmp_path / "gone/tokenizer")))
    assert settings_of(gone, tmp_path / "export").text_tokenizer == own.text_tokenizer
    elsewhere = evolve(own, text_tokenizer=TextTokenizer(path="Qwen/Qwen3-VL-8B-Instruct"))
    assert settings_of(elsewhere, tmp_path / "export").text_tokenizer == elsewhere.text_tokenizer


def test_damaged_defaults_of_an_export_are_all_told(place: Path, tmp_path: Path) -> None:
    values = {"size": 5, "frames": "x", "fps": 0, "steps": True, "guidance": 1.0, "tells_size": "yes", "modes": 3}
    (tmp_path / "cosmos_export.json").write_text(json.dumps({"format": 1, "task": "vfm", "generation": values}))
    with pytest.raises(UserError, match="defaults that the export carries") as caught:
        recorded_generation(tmp_path)
    keys = {problem.key.removeprefix("generation.") for problem in caught.value.problems}
    assert keys == {"size", "frames", "fps", "steps", "tells_size"}


def test_options_that_do_nothing_for_a_source_are_told(place: Path) -> None:
    with pytest.raises(UserError, match="--weights live is for runs"):
        configured(place / "merged", weights="live")
    with pytest.raises(UserError, match="no recipe is used"):
        configured(run_dir(place), recipe="vision_sft_demo")


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_loaded(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said = refused(str(place / "published"), "-p", "a", *SHORT, "-o", str(tmp_path / "file/out"))
    assert "Not a directory; choose another place" in said


def test_a_full_folder_is_left_alone(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert "choose another folder" in refused(str(place / "published"), "-p", "a", *SHORT, "-o", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_bad_file_of_previews_is_told_before_a_run_starts(place: Path) -> None:
    (place / "previews.jsonl").write_text('{"promt": "a"}')
    override = f"trainer.callbacks.every_n_draw_sample.prompts_file={place / 'previews.jsonl'}"
    command = ("run", "vision_sft_demo", "--dry-run", override)
    said = cosmos(*command, env={"DATASET_PATH": str(place / "data")}, code=2).stderr
    assert "trainer.callbacks.every_n_draw_sample.prompts_file" in said
    assert "previews.jsonl:1" in said
    assert "did you mean 'prompt'" in said
