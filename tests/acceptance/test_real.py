"""`make acceptance-real` on a small random twin of the published weights: every step that it reports is well."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.real import REPORT, Acceptance, command_of
from tests.acceptance.real_settings import STEPS, Settings, twin
from tests.command import cosmos

PLAIN = Settings(
    generator="nothing",
    reasoner="nothing",
    generator_recipe="vision_sft_demo",
    reasoner_recipe="videophy2_demo",
    clips=(),
    videos=(),
    clip=(),
    picture=(),
)


def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """As the script does, but forked from a process with the imports done."""
    return cosmos(*arguments[1:], code=None) if arguments[0] == "cosmos_core" else command_of(arguments)


@pytest.mark.slow
def test_all_steps_work_on_a_twin_of_the_published_weights(tmp_path: Path) -> None:
    report = Acceptance(tmp_path, twin(tmp_path), run).everything()
    assert {step["name"]: step.get("messages", "") for step in report["steps"] if step["state"] != "ok"} == {}
    assert json.loads((tmp_path / REPORT).read_text()) == report
    losses = [record["loss"] for record in report["figures"]["generator"] if "loss" in record]
    assert len(losses) == STEPS
    (after, export) = (step["printed"] for step in report["steps"] if step["name"].startswith("chat after"))
    assert after == export


def test_a_step_that_fails_is_reported_and_only_what_needs_it_is_left_out(tmp_path: Path) -> None:
    def fails(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        code = 1 if "fetch" in arguments else 0
        return subprocess.CompletedProcess(arguments, code, "said", "no network" if code else "")

    report = Acceptance(tmp_path, PLAIN, fails).everything()
    states = {step["name"]: step["state"] for step in report["steps"]}
    assert states["fetch generator"] == "failed"
    assert states["generator data"] == "ok"
    assert {states[name] for name in ("convert", "train generator", "generate after", "compare with diffusers")} == {
        "skipped"
    }
    (fetch,) = (step for step in report["steps"] if step["name"] == "fetch reasoner")
    assert (fetch["exit code"], fetch["messages"]) == (1, "no network")
