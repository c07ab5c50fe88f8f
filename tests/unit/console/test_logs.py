"""Log lines reach the console by rank and level, and a file that holds everything but secrets."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from cosmos_core.config.env import threads_per_rank
from cosmos_core.console.logs import log_file, logging_to_console

OURS = logging.getLogger("cosmos_core.somewhere")
PLUGIN = logging.getLogger("acme_cosmos.somewhere")
OTHER = logging.getLogger("someone.elses")

SCRIPT = """
import logging, sys, warnings
from pathlib import Path
from cosmos_core.console.logs import log_file, logging_to_console
rank, path = int(sys.argv[1]), Path(sys.argv[2])
before = (list(logging.root.handlers), logging.root.level, logging.getLogger("acme_cosmos").level, warnings.showwarning)
with logging_to_console(rank, ["acme_cosmos"]), log_file(path):
    for name in ("cosmos_core.a", "acme_cosmos.b", "someone.elses"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, "%s of %s", logging.getLevelName(level), name)
    warnings.warn("old function", stacklevel=1)
assert before == (
    list(logging.root.handlers), logging.root.level, logging.getLogger("acme_cosmos").level, warnings.showwarning
)
"""


def run(rank: int, path: Path) -> list[str]:
    """Lines on stderr, without their times."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(rank), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.partition(" ")[2] for line in done.stderr.splitlines()]


def test_rank_0_prints_what_happens_and_every_warning(tmp_path: Path) -> None:
    lines = run(0, tmp_path / "logs/rank_0.log")
    assert lines[:5] == [
        "INFO of cosmos_core.a",
        "warning: WARNING of cosmos_core.a",
        "INFO of acme_cosmos.b",
        "warning: WARNING of acme_cosmos.b",
        "warning: WARNING of someone.elses",
    ]
    assert any("old function" in line for line in lines[5:])
    assert all("DEBUG" not in line for line in lines)


def test_other_ranks_print_warnings_with_their_number(tmp_path: Path) -> None:
    lines = run(3, tmp_path / "logs/rank_3.log")
    assert lines[0] == "rank 3: warning: WARNING of cosmos_core.a"
    assert not [line for line in lines if "INFO" in line or "DEBUG" in line]


def test_the_file_has_our_debug_lines_and_grows_over_launches(tmp_path: Path) -> None:
    path = tmp_path / "logs/rank_0.log"
    run(0, path)
    run(0, path)
    text = path.read_text()
    for name in ("cosmos_core.a", "acme_cosmos.b"):
        for level in ("DEBUG", "INFO", "WARNING"):
            assert text.count(f" {level} {name}: {level} of {name}\n") == 2
    assert "WARNING of someone.elses" in text
    assert "INFO of someone.elses" not in text
    assert "old function" in text


def test_handlers_of_the_process_get_what_they_got_before(tmp_path: Path) -> None:
    heard: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    handler, root = Kept(), logging.getLogger()
    root.addHandler(handler)
    try:
        with logging_to_console(0, ["acme_cosmos"]), log_file(tmp_path / "run.log"):
            for name in (OURS, PLUGIN, OTHER):
                name.info("quiet")
                name.warning("loud")
        OURS.info("afterwards")
    finally:
        root.removeHandler(handler)
    assert heard == ["loud"] * 3
    assert (tmp_path / "run.log").read_text().count("quiet") == 2


def test_secrets_do_not_reach_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "WANDB_API_KEY": "wandb-secret-1234",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-9",
        "DB_PASSWORD": "pass-word",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    token = "hf_" + "a1B2" * 8
    monkeypatch.setenv("SHORT_KEY", "data")
    with (  # noqa: PT012
        pytest.raises(ValueError, match="told"),
        logging_to_console(0, []),
        log_file(tmp_path / "run.log"),
    ):
        for value in secrets.values():
            OURS.warning("refused with %s in data", value)
        OURS.warning("fetching https://user:password-42@host/x with %s", token)
        raise ValueError("told wandb-secret-1234")
    text = (tmp_path / "run.log").read_text()
    assert "ValueError: told ***" in text
    assert "refused with *** in data" in text
    assert "fetching https://***@host/x with ***" in text
    for value in (*secrets.values(), token, "password-42"):
        assert value not in text


def test_ranks_share_the_cores_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(24)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_per_rank(8) == {"OMP_NUM_THREADS": "3"}
    assert threads_per_rank(48) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_per_rank(8) == {}
