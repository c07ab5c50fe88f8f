"""Secrets of the environment and of the command line reach no file of a run and no message."""

from __future__ import annotations

import os
from pathlib import Path

from tests.command import cosmos, module

NAMES = (
    "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "NGC_API_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN",
    "DB_PASSWORD", "MYSQL_PWD", "SSH_KEY_PASSPHRASE", "AZURE_CLIENT_SECRET", "SENTRY_DSN", "GOOGLE_CREDENTIALS",
    "PROXY_AUTHORIZATION", "SESSION_COOKIE", "AZURE_PAT", "REGISTRY_PASSWD", "SLURM_JWT_TOKEN", "SLURM_API_KEY",
    "CLIENT_SECRET", "AZURE_STORAGE_SAS",
)  # fmt: skip
PLANTED = {name: f"planted-{number:02}-value" for number, name in enumerate(NAMES)}
ADDRESSES = {
    "DATASET_PATH": "https://user:planted-address@host/data",
    "HF_HOME": "/tmp/hub?token=planted-query",
    "SLURM_JOB_NAME": "planted-00-value",
}


def test_no_file_of_a_run_and_no_tracker_holds_one(tmp_path: Path) -> None:
    """W&B collects the command line, the git remote and SLURM_* by itself; offline it writes what it would send."""
    short = (
        "trainer.max_iter=2",
        "trainer.run_validation=false",
        "job.wandb_mode=offline",
        f"job.name={tmp_path.name}",
    )
    planted = {**PLANTED, **ADDRESSES, "WANDB_SILENT": "true"}
    done = module(
        "cosmos_core", "run", "hello", *short, "--output-root", str(tmp_path), "trainer.logging_iter=1", env=planted
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"job_env.yaml", "launch_info.yaml", "config.toml", "rank_0.log"} <= names
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if b"planted-" in path.read_bytes()] == []
    assert "planted-" not in done.stdout + done.stderr
    (job_env,) = tmp_path.rglob("launches/1/job_env.yaml")
    assert "https://***@host/data" in job_env.read_text()


def test_a_secret_in_the_configuration_is_refused_before_it_is_recorded(tmp_path: Path) -> None:
    address = "https://user:planted-address@host/data"
    done = cosmos("run", "hello", f"checkpoint.load_path={address}", "--output-root", str(tmp_path), code=2)
    assert "checkpoint.load_path: holds a password or token" in done.stderr
    assert "planted-" not in done.stderr
    assert not os.listdir(tmp_path)
