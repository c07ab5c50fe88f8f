"""Benchmarks run in small on any machine, and what they compare is equal there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks import convergence, encode_vae
from tests.benchmarks.convergence import largest_difference, smoothed


@pytest.mark.parametrize(("model", "peer"), [("generator", "diffusers"), ("reasoner", "transformers")])
def test_losses_are_those_of_a_plain_loop_step_by_step(
    model: str, peer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound: 1e-5 relative, float32."""
    command = ["convergence", model, "--smoke", "--steps", "9", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--side", "cosmos", "--seconds", "1e9"])
    convergence.main()
    assert not (tmp_path / f"{model}.json").is_file(), "one side alone is not compared"
    monkeypatch.setattr(sys, "argv", [*command, "--steps", "8", "--side", "peer"])
    convergence.main()
    found = json.loads((tmp_path / f"{model}.json").read_text())
    assert found["losses"]["cosmos"] == pytest.approx(found["losses"][peer], rel=1e-5)
    assert len(set(found["losses"]["cosmos"])) == 8
    assert (tmp_path / f"{model}.svg").read_text().count("<path") > 4


def test_smoothed_losses_are_compared_from_the_first_whole_window_on() -> None:
    assert smoothed([4.0] * 9, 3) == pytest.approx([4.0] * 9)
    assert largest_difference([2.02] * 60, [2.0] * 60, 50) == pytest.approx(0.01)
    assert largest_difference([9.0, 2.0], [1.0, 2.0], 2) < largest_difference([9.0, 2.0], [1.0, 2.0], 1) == 8
    assert largest_difference([1.0, float("nan")], [1.0, 1.0], 1) == float("inf")


def test_clips_are_encoded_beside_diffusers_in_every_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["encode_vae", "--smoke", "--eager"])
    encode_vae.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len([row for row in rows if row["table"].startswith("VAE encode")]) == 6
    assert max(row["relative"] for row in rows if row.get("dtype") == "float32") < 1e-5
