"""`cosmos doctor` as people and scripts call it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from tests.command import cosmos


def test_quick_json_tests_everything_here_and_says_what_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    env = {"IMAGINAIRE_OUTPUT_ROOT": str(tmp_path / "file"), "CUDA_VISIBLE_DEVICES": ""}
    done = cosmos("doctor", "--quick", "--offline", "--json", env=env, code=1)
    report = json.loads(done.stdout)
    checks = {(check["group"], check["name"]): check for check in report["checks"]}
    broken = [place for place, check in checks.items() if check["status"] == "broken"]
    assert broken == [("disk", f"output root {tmp_path / 'file'}")]
    assert report["ok"] is False
    assert report["verdict"] == f"broken: disk: output root {tmp_path / 'file'}"
    assert {"plugin", "machine", "attention", "codecs", "collectives", "network", "natten"} <= {
        group for group, _ in checks
    }
    for kernel in ("flash", "math", "packed, unequal lengths", "sequence mask", "two merged parts"):
        for dtype in ("bfloat16", "float32"):
            assert checks["attention", f"{kernel}, {dtype}"]["status"] == "ok"
    exact = checks["attention", "math, float32"]
    assert 0 < exact["data"]["error"] < 1e-4
    assert exact["message"].endswith("full, full GQA, causal, causal GQA")
    assert checks["codecs", "h264"]["status"] == "ok"
    assert checks["plugin", "core"]["message"] == version("cosmos-core")
    assert checks["machine", "compile"]["message"] == "left out by --quick"
    assert "attention: math, float32 ... ok: error" in done.stderr


def test_the_help_shows_examples() -> None:
    text = cosmos("doctor", "--help").stdout
    assert all(word in text for word in ("Examples:", "--quick", "--json", "--offline"))
