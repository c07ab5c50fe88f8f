"""Whatever a check does, the doctor goes on and says what happened."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.doctor import DoctorOptions, Outcome, run_checks
from cosmos_core.plugin import DoctorSpec

OPTIONS = DoctorOptions(quick=True, offline=True, output_root=Path())


def outcomes(*names: str) -> tuple[dict[tuple[str, str], Outcome], list[tuple[str, str]]]:
    """By group and name; and what was announced, in order."""
    announced: list[tuple[str, str]] = []
    specs = [DoctorSpec(name=name, summary="", checks=f"tests.unit.doctor.faulty:{name}") for name in names]
    found = list(run_checks(specs, OPTIONS, lambda *place: announced.append(place)))
    return {(outcome.group, outcome.name): outcome for outcome in found}, announced


def test_a_crash_a_hang_and_an_error_are_results_and_the_checks_after_them_run() -> None:
    found, announced = outcomes("crashing", "unlisted", "hanging", "raising")
    assert list(found) == announced
    assert {place: outcome.result.status for place, outcome in found.items()} == {
        ("crashing", "before"): "ok",
        ("crashing", "kernel"): "broken",
        ("crashing", "after"): "ok",
        ("unlisted", "list of checks"): "broken",
        ("hanging", "kernel"): "broken",
        ("hanging", "after"): "ok",
        ("raising", "kernel"): "broken",
    }
    crash = found["crashing", "kernel"].result
    assert crash.message == "its process died (SIGSEGV)"
    assert "the kernel says farewell" in str(crash.data["output"])
    assert crash.hint
    assert found["hanging", "kernel"].result.message == "no answer in 0.5 s"
    assert found["raising", "kernel"].result.message == "OSError: no driver"
    assert found["unlisted", "list of checks"].result.message == "ImportError: libacme.so: not found"
