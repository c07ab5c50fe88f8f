"""What looks like a secret leaves no way out of the program; ordinary words stay."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cosmos_core.config.problems import render
from cosmos_core.config.secrets import names_a_secret, secret_keys, without_secrets
from cosmos_core.console.logs import log_file
from cosmos_core.errors import Problem, UserError

NAMES = [
    "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "NGC_API_KEY", "OPENAI_API_KEY",
    "GITHUB_TOKEN", "DB_PASSWORD", "MYSQL_PWD", "SSH_KEY_PASSPHRASE", "AZURE_CLIENT_SECRET", "SENTRY_DSN",
    "GOOGLE_CREDENTIALS", "PROXY_AUTHORIZATION", "SESSION_COOKIE", "AZURE_PAT", "REGISTRY_PASSWD", "SLURM_JWT_TOKEN",
    "clientSecret", "AZURE_STORAGE_SAS", "myApiKey", "HFTOKEN",
]  # fmt: skip
ORDINARY = [
    "PWD",
    "PATH",
    "TOKENIZERS_PARALLELISM",
    "KEYBOARD",
    "MAX_TOKENS",
    "HOME",
    "KEY_ID",
    "COMPASS",
    "DATASET_PATH",
]

VALUE = "Zq7-correct-horse"
TOKEN = "hf_" + "aB3" * 12
SHAPES = [
    TOKEN,
    f"https://me:{VALUE}@host/data.tar",
    f"https://host/data.tar?X-Amz-Signature={VALUE}&x=1",
    f"https://host/data.tar?token={VALUE}",
    f"https://account.blob.host/c?sv=1&sig={VALUE}",
    f"AccountName=a;AccountKey={VALUE};x=1",
    f"Authorization: Bearer {VALUE}",
    f"trainer.trackers.acme.api_key={VALUE}",
    f"--password {VALUE}",
    f"{{'hub_token': '{VALUE}'}}",
    f'"secret": "{VALUE}"',
    f"-----BEGIN RSA PRIVATE KEY-----\n{VALUE}\n-----END RSA PRIVATE KEY-----",
    "sk-proj-" + VALUE + "-1234567",
    "nvapi-" + VALUE + "-1234567",
    "glpat-" + VALUE + "-1234567",
    "ghp_" + "aB3" * 12,
    "AKIA" + "ABCD" * 4,
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0" + ".c2ln",
]
WORDS = [
    "tokens: 4096",
    "pad_token: <|endoftext|>",
    "max_token=4096",
    "token = 7",
    "the token 'a' is missing",
    "the secret of a good caption",
    "file:///data/a@b.mp4",
    "https://huggingface.co/nvidia/Cosmos3-Nano@9f3c2a",
    "hf://datasets/nvidia/x",
    "keys_to_skip_loading=['net_ema.']",
    "revision 9f3c2a0b6d1e4f5a8b7c6d5e4f3a2b1c0d9e8f7a",
    "Basic training of the network",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_a_variable_whose_name_says_secret_is_hidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, VALUE)
    assert names_a_secret(name)
    assert without_secrets(f"cannot open {VALUE}!") == "cannot open ***!"


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_variable_is_no_secret(name: str) -> None:
    assert not names_a_secret(name)


@pytest.mark.parametrize("text", SHAPES)
def test_a_secret_is_known_by_its_form(text: str) -> None:
    hidden = without_secrets(f"see {text} here")
    assert "***" in hidden
    assert VALUE not in hidden
    assert hidden.endswith(" here")
    assert without_secrets(hidden) == hidden


@pytest.mark.parametrize("text", WORDS)
def test_ordinary_text_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_errors_and_log_files_hold_none(tmp_path: Path) -> None:
    problem = Problem(message=f"cannot read {SHAPES[1]}", key="dataset.path", file=TOKEN, hint=SHAPES[3])
    assert VALUE not in render(UserError(f"no {TOKEN}", [problem]))
    assert TOKEN not in render(UserError(f"no {TOKEN}", [problem]))

    def fetch() -> None:
        with log_file(tmp_path / "log"):
            logging.getLogger("acme").warning("fetching %s", SHAPES[2])
            raise ValueError(f"cannot fetch {TOKEN}")

    with pytest.raises(ValueError, match="cannot"):
        fetch()
    text = (tmp_path / "log").read_text()
    assert "fetching https://host/data.tar?X-Amz-Signature=***" in text
    assert TOKEN not in text


def test_keys_of_a_configuration_that_hold_one_are_found_at_any_depth() -> None:
    values = {
        "a": {"path": SHAPES[1], "list": ["x", {"api_key": VALUE}]},
        "pad_token": "<pad>",
        "steps": 5,
        "t": [TOKEN],
    }
    assert secret_keys(values) == ["a.path", "a.list.api_key", "t"]
