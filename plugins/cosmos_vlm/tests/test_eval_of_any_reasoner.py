"""`cosmos eval` takes a reasoner in every form a user has it in, without a network; wrong kinds say what they are."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from PIL import Image

from cosmos_core.config import ModelConfig
from cosmos_core.plan import read_export
from cosmos_core.plan.source import find_source
from cosmos_core.plugin import ModelFamilySpec, PluginManager
from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
ROWS = 3
RECIPE = ("--recipe", "videophy2_demo")
SMALL = ("model.video_min_pixels=1024", "model.max_new_tokens=2")
SHORT = (
    "trainer.max_iter=2",
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[0]",
    "dataloader_train.max_samples_per_batch=2",
    "model.init=pretrained",
    *SMALL,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published reasoner, a run that trained it further, the run's export, questions about a picture."""
    root = tmp_path_factory.mktemp("any")
    write_reasoner(root / "published")
    write_physics(root / "physics", train=4, val=3)
    train(root, "tuned", f"model.backbone.model_name={root / 'published'}")
    cosmos("export", str(run_dir(root, "tuned")), "-o", str(root / "export"))
    (root / "data").mkdir()
    Image.new("RGB", (32, 32)).save(root / "data/picture.png")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A picture."}]
    rows = [{"id": f"row{number}", "image": "picture.png", "conversations": turns} for number in range(ROWS)]
    (root / "data/rows.json").write_text(json.dumps(rows))
    return root


def train(place: Path, name: str, *more: str, code: int = 0) -> str:
    command = ("run", "videophy2_demo", "--output-root", str(place), f"job.name={name}", *SHORT, *more)
    return cosmos(*command, env={"VIDEOPHYSICS_ROOT": str(place / "physics")}, code=code).stderr


def run_dir(place: Path, name: str) -> Path:
    return place / "cosmos3/sft" / name


def evaluated(place: Path, *arguments: str, **more: str) -> dict[str, Any]:
    environment = {"VIDEOPHYSICS_ROOT": str(place / "physics"), "IMAGINAIRE_OUTPUT_ROOT": str(place / "out"), **more}
    figures: dict[str, Any] = json.loads(cosmos("eval", *arguments, "--json", env=environment).stdout)
    return figures


def answers(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_a_run_and_its_export_give_the_same_figures_and_words(place: Path) -> None:
    run = evaluated(place, str(run_dir(place, "tuned")))
    assert evaluated(place, str(place / "export")) == pytest.approx(run, rel=1e-5)
    told = json.loads((run_dir(place, "tuned") / "evaluation/metrics.json").read_text())
    assert told["weights"].endswith(" (live)")  # It keeps no average.
    said = answers(run_dir(place, "tuned") / "evaluation")
    assert said == answers(place / "out/evaluation/export")
    assert {answer["key"] for answer in said} == {"conversation_0001", "conversation_0002", "conversation_0003"}
    assert all(answer["reference"] in "12345" for answer in said)


def test_an_export_with_its_adapters_folded_in_gives_the_figures_of_their_run(place: Path, tmp_path: Path) -> None:
    """Its recorded keys_to_select name adapters, which the folded weights lack."""
    adapters = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]')
    train(place, "adapted", f"model.backbone.model_name={place / 'published'}", *adapters)
    cosmos("export", str(run_dir(place, "adapted")), "-o", str(tmp_path / "folded"))
    run = evaluated(place, str(run_dir(place, "adapted")))
    assert evaluated(place, str(tmp_path / "folded")) == pytest.approx(run, rel=1e-5)


def test_before_training_the_recipe_and_the_published_folder_are_the_runs_start(place: Path, tmp_path: Path) -> None:
    published = place / "published"
    start = ("model.init=pretrained", f"model.backbone.model_name={published}", *SMALL)
    folder = evaluated(place, str(published), *RECIPE, *SMALL)
    assert evaluated(place, "videophy2_demo", *start) == folder
    assert evaluated(place, str(run_dir(place, "tuned")), "--weights", "fresh", "-o", str(tmp_path)) == folder
    assert folder["val_loss"] != evaluated(place, str(run_dir(place, "tuned")), "-o", str(tmp_path))["val_loss"]


def test_llava_data_gets_words_from_a_folder_without_a_network(place: Path, tmp_path: Path) -> None:
    """The recipe names a backbone on the Hub; the folder that is there has all files."""
    data = [f"dataloader_{name}.dataset.path={place / 'data'}" for name in ("train", "val")]
    validation = ("dataloader_val.dataset.type=llava_ov", "dataloader_val.max_samples_per_batch=1")
    workers = ("dataloader_val.num_workers=0", "model.max_new_tokens=2", "--answers", "2")
    offline = {**UNREACHABLE, "HF_HOME": str(tmp_path / "empty")}
    options = (*data, *validation, *workers, "model.precision=float32", "-o", str(tmp_path / "out"))
    figures = evaluated(place, str(place / "export"), "--recipe", "llava_ov", *options, **offline)
    assert figures.keys() == {"val_loss", "exact_match"}
    said = answers(tmp_path / "out")
    assert [(answer["key"], answer["reference"]) for answer in said] == [("row0", "A picture."), ("row1", "A picture.")]
    assert json.loads((tmp_path / "out/metrics.json").read_text())["metrics"] == figures


def test_an_export_starts_a_run_by_the_key_that_the_refusal_names(place: Path) -> None:
    said = train(place, "again", f"checkpoint.load_path={place / 'export'}", code=2)
    key = f"model.backbone.model_name={place / 'export'}"
    assert key in said
    said = cosmos("convert", str(place / "export"), "-o", str(place / "no"), code=2).stderr
    assert key in said
    train(place, "again", key)
    fresh = evaluated(place, str(run_dir(place, "again")), "--weights", "fresh")
    assert fresh == pytest.approx(evaluated(place, str(run_dir(place, "tuned"))), rel=1e-5)


def test_adapters_alone_are_told_apart_from_weights(place: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    for command in (("eval", *RECIPE), ("export", "-o", str(tmp_path / "out")), ("convert", "-o", str(tmp_path / "o"))):
        said = cosmos(command[0], str(tmp_path), *command[1:], code=2).stderr
        assert "adapters alone" in said
        assert "without --adapter" in said


def test_a_later_command_learns_family_and_settings_from_a_folder_alone(place: Path) -> None:
    plugins = PluginManager.discover()
    source = find_source(place / "export", plugins)
    spec = next(spec for spec in plugins.registry.all(ModelFamilySpec) if source.format in spec.reads)
    config: ModelConfig = spec.config.load()()
    settings = spec.family.load().settings_of(config, source.folder)
    assert (spec.name, settings.backbone.model_name, settings.init) == ("vlm", str(place / "export"), "pretrained")


class TextOfMessages:
    """A processor without pictures, which transformers' own needs torchvision for."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: str) -> TextOfMessages:
        return cls(folder)

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        texts = [{**message, "content": message["content"][1]["text"]} for message in messages]
        return self.tokenizer.apply_chat_template(texts, **options)

    def batch_decode(self, ids: Any, **options: Any) -> Any:
        return self.tokenizer.batch_decode(ids, **options)


def test_an_export_says_what_it_is_and_the_code_of_its_card_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_export(place / "export")
    assert record is not None
    assert (record.task, record.run, record.weights) == ("vlm", str(run_dir(place, "tuned")), "live")
    assert record.generation["video_fps"] == 2.0
    assert record.generation["image_pixels"][0] == 65_536
    card = (place / "export/README.md").read_text()
    front, body = card.removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(front)["pipeline_tag"] == "image-text-to-text"
    assert "`cosmos eval FOLDER` evaluates these weights on the same data." in body
    code = body.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(place / "data")
    shutil.copytree(place / "export", "export")
    monkeypatch.chdir("export")
    shutil.copy(place / "data/picture.png", ".")
    names = {"AutoProcessor": TextOfMessages} if find_spec("torchvision") is None else {}
    code = code.replace("import AutoProcessor, ", "import ") if names else code
    exec(compile(code.replace("1024", "4"), "README.md", "exec"), names)
    assert capsys.readouterr().out.endswith("\n")
