"""Everything a user does, on published weights: ``python -m tests.acceptance.real -o DIR`` (`make acceptance-real`).

Fetch, convert, 20 steps, export, generate before and after, compare with diffusers, chat before and after. Each step is
a command of its own; one that fails does not stop those that do not need it. All that came out is in
``DIR/acceptance.json``, to send back. ``--twin`` makes small random weights in the published layout and needs neither
network nor accelerator.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import define, field

from tests.acceptance.real_settings import Settings, published, twin

__all__ = ["REPORT", "Acceptance", "command_of", "main"]

REPORT = "acceptance.json"
TAIL = 2000
"""Characters of a failing command's messages that are reported."""
PICTURE = ("--frames", "1", "--no-facts", "--negative", "", "--seed", "0")

Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@define
class Acceptance:
    """folder: for everything. run: executes ``python -m`` with these arguments. steps: what was done so far."""

    folder: Path
    settings: Settings
    run: Runner
    steps: list[dict[str, Any]] = field(factory=list)

    def everything(self) -> dict[str, Any]:
        """All steps; the report, which is written after each of them."""
        self.generator()
        self.reasoner()
        return self.report()

    def generator(self) -> None:
        """Fetch, convert, train, export, generate before and after, compare with diffusers."""
        own, prompt = self.settings, ("--prompt", self.settings.prompt)
        weights, base, runs = self._fetched("generator", own.generator), self.folder / "base", self.folder / "runs"
        self.cosmos("convert", ("convert", weights, "-o", str(base)), needs=["fetch generator"])
        self.cosmos("generator data", ("data", "prepare", "bridge", *own.clips, "-o", str(self.folder / "clips")))
        data = f"dataloader_train.dataset.path={self.folder / 'clips'}"
        steps = ("run", own.generator_recipe, "--output-root", str(runs), "job.name=generator", data)
        overrides = (*own.generator_overrides(weights), f"checkpoint.load_path={base}")
        self.cosmos("train generator", (*steps, *overrides), needs=["convert", "generator data"])
        run, export = self._run_of("generator"), self.folder / "generator_export"
        self.cosmos("export generator", ("export", run, "-o", str(export), "--verify"), needs=["train generator"])
        for name, source, more in (
            ("before", weights, own.of_published(weights)),
            ("after", run, ()),
            ("after export", str(export), ()),
        ):
            output = ("-o", str(self.folder / f"generated_{name.replace(' ', '_')}"))
            needed = {"before": "fetch generator", "after": "train generator"}.get(name, "export generator")
            self.cosmos(f"generate {name}", ("generate", source, *more, *prompt, *own.clip, *output), needs=[needed])
        picture = self.folder / "picture"
        command = ("generate", weights, *own.of_published(weights), *prompt, *own.picture, *PICTURE)
        precise = ("--precision", own.precision, "-o", str(picture))
        self.cosmos("generate picture", (*command, *precise), needs=["fetch generator"])
        judge = ("tests.acceptance.against_diffusers", weights, str(picture), "--precision", own.precision)
        self.step("compare with diffusers", judge, needs=["generate picture"])

    def reasoner(self) -> None:
        """Chat, train, export, chat again."""
        own, picture = self.settings, self.folder / "question.png"
        self._draw(picture)
        question = ("--image", str(picture), "--prompt", "What is in the picture?", "--max-tokens", "64")
        weights = self._fetched("reasoner", own.reasoner)
        self.cosmos("chat before", ("chat", weights, *question), needs=["fetch reasoner"])
        self.cosmos("reasoner data", ("data", "prepare", "videophy2", *own.videos, "-o", str(self.folder / "videos")))
        where = [f"dataloader_{part}.dataset.path={self.folder / 'videos'}" for part in ("train", "val")]
        steps = ("run", own.reasoner_recipe, "--output-root", str(self.folder / "runs"), "job.name=reasoner", *where)
        train = (*steps, *own.reasoner_overrides(weights))
        self.cosmos("train reasoner", train, needs=["fetch reasoner", "reasoner data"])
        run, export = self._run_of("reasoner"), str(self.folder / "reasoner_export")
        self.cosmos("export reasoner", ("export", run, "-o", export, "--verify"), needs=["train reasoner"])
        self.cosmos("chat after", ("chat", run, *question), needs=["train reasoner"])
        self.cosmos("chat after export", ("chat", export, *question), needs=["export reasoner"])

    def cosmos(self, name: str, arguments: Sequence[str], *, needs: Sequence[str] = ()) -> None:
        """A command of `cosmos` as a step."""
        self.step(name, ("cosmos_core", *arguments), needs=needs)

    def step(self, name: str, arguments: Sequence[str], *, needs: Sequence[str] = ()) -> None:
        """Run a command unless a step that it needs failed, and report it."""
        failed = [other["name"] for other in self.steps if other["name"] in needs and other["state"] != "ok"]
        if failed:
            self._add({"name": name, "state": "skipped", "since": failed})
            return
        click.echo(f"{name}: {' '.join(arguments)}", err=True)
        started = time.perf_counter()
        done = self.run(arguments)
        seconds = round(time.perf_counter() - started, 1)
        state = "ok" if done.returncode == 0 else "failed"
        facts = {"command": list(arguments), "seconds": seconds, "printed": done.stdout[-TAIL:]}
        messages = {} if state == "ok" else {"exit code": done.returncode, "messages": done.stderr[-TAIL:]}
        self._add({"name": name, "state": state, **facts, **messages})

    def report(self) -> dict[str, Any]:
        """Everything that is known so far."""
        return {
            "python": sys.version.split()[0],
            "machine": platform.platform(),
            "twin": self.settings.is_twin,
            "steps": self.steps,
            "figures": {name: self._figures(name) for name in ("generator", "reasoner")},
        }

    def _add(self, step: dict[str, Any]) -> None:
        self.steps.append(step)
        click.echo(f"{step['name']}: {step['state']}", err=True)
        (self.folder / REPORT).write_text(json.dumps(self.report(), indent=2) + "\n", encoding="utf-8")

    def _fetched(self, part: str, name: str) -> str:
        """The folder of published weights; the name where it is one already."""
        if Path(name).is_dir():
            self._add({"name": f"fetch {part}", "state": "ok", "printed": name})
            return name
        self.cosmos(f"fetch {part}", ("checkpoints", "fetch", name, "--json"))
        newest = self.steps[-1]
        return str(json.loads(newest["printed"])["path"]) if newest["state"] == "ok" else name

    def _run_of(self, name: str) -> str:
        """The directory of a run, whatever project and group its recipe names."""
        return next(map(str, (self.folder / "runs").glob(f"*/*/{name}")), str(self.folder / "runs" / name))

    def _figures(self, name: str) -> list[dict[str, Any]]:
        """The records of a run's metrics."""
        metrics = Path(self._run_of(name)) / "metrics.jsonl"
        return [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []

    def _draw(self, path: Path) -> None:
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (320, 240), "white")
        ImageDraw.Draw(picture).ellipse((110, 70, 210, 170), fill="red")
        picture.save(path)


def command_of(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` in a process of its own."""
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default="outputs/acceptance")
@click.option("--twin", "use_twin", is_flag=True, help="Random weights in the published layout; no network.")
@click.option("--generator", default="Cosmos3-Nano", show_default=True, help="Published name or folder.")
@click.option("--reasoner", default="Cosmos3-Nano-Reasoner", show_default=True, help="Published name or folder.")
def main(output: Path, use_twin: bool, generator: str, reasoner: str) -> None:
    """Run all steps in the folder OUTPUT, and say where the report is."""
    output.mkdir(parents=True, exist_ok=True)
    folder = output.resolve()
    settings = twin(folder) if use_twin else published(generator, reasoner)
    report = Acceptance(folder, settings, command_of).everything()
    bad = [step["name"] for step in report["steps"] if step["state"] != "ok"]
    click.echo(f"report: {folder / REPORT}")
    if bad:
        raise SystemExit(f"not ok: {', '.join(bad)}")


if __name__ == "__main__":
    main()
