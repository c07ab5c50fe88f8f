"""One filter for secrets, at every way out of the program: files, log lines, messages, trackers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cosmos_core.config.env import named_values

__all__ = ["names_a_secret", "secret_keys", "without_secrets"]

HIDDEN = "***"
_SHORTEST = 8
"""Characters of a variable's value; a shorter one may be part of ordinary words."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET = ("token", "secret", "secrets", "password", "passwd", "passphrase", "apikey", "credential", "credentials")
"""Ends of words that say it, in the name of a variable."""
_SECRET_WORDS = {"pass", "passcode", "authorization", "cookie", "pat", "dsn", "signature", "sas"}
_SECRET_LAST = {"key", "pwd"}
"""Words that say it at the end of a name: API_KEY, but not KEY_ID."""
_FOLDERS = {"PWD", "OLDPWD"}

_KEY = r"api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|secret|token|passw(?:or)?d|passphrase|credential"
_NAME = rf"(?:[\w.-]*[_.-])?(?:{_KEY})"
_VALUE = r"(?![<$*])(?!(?:\d+|true|false|null|none)\b)[^\s'\",;&})\]]{4,}"
"""Not a number, a special token such as <|im_end|>, or the name of a variable."""


def _after(prefix: str, secret: str) -> re.Pattern[str]:
    """A secret that stands behind what stays."""
    return re.compile(f"({prefix}){secret}", re.IGNORECASE | re.DOTALL)


_SHAPES = (
    _after(r"\b[a-z][a-z\d+.-]*:/{1,2}", r"[^/@\s'\"]+(?=@)"),
    _after(rf"[?&](?:{_NAME}|[\w.-]*(?:sig|signature|key|auth)|X-Amz-\w+)=", r"[^&\s'\"#]+"),
    _after(r"\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=", r"[^;\s'\"]+"),
    _after(r"\bBearer\s+", r"[\w.~+/=-]{16,}"),
    _after(rf"\b{_NAME}['\"]?\s?[=:]\s?['\"]?", _VALUE),
    _after(rf"--{_NAME}\s+", _VALUE),
    _after("", r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    _after(r"\b", r"(?:hf|api_org)_[a-z0-9]{20,}"),
    _after(r"\b", r"(?:sk-|nvapi-|glpat-|wandb_v\d_)[\w-]{20,}"),
    _after(r"\b", r"(?:xox[a-z]-[\w-]{10,}|AKIA[0-9A-Z]{16}\b|AIza[\w-]{35})"),
    _after(r"\b", r"(?:gh[a-z]_[a-z0-9]{30,}|github_pat_\w{30,})"),
    _after(r"\b", r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"),
)
"""Credentials in addresses, queries and headers, what stands behind a name that says so, tokens of known form."""


def names_a_secret(name: str) -> bool:
    """Whether the name of a variable says that its value is secret."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or name in _FOLDERS:
        return False
    return words[-1] in _SECRET_LAST or any(word in _SECRET_WORDS or word.endswith(_SECRET) for word in words)


def without_secrets(text: str) -> str:
    """`text` with ``***`` for secret values of the environment and for whatever looks like a secret."""
    for name, value in named_values():
        if len(value) >= _SHORTEST and value in text and names_a_secret(name):
            text = text.replace(value, HIDDEN)
    for shape in _SHAPES:
        text = shape.sub(rf"\1{HIDDEN}", text)
    return text


def secret_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose text holds a secret; `values`: nested tables."""
    keys = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        texts = value if isinstance(value, list) else [value]
        tables = [part for part in texts if isinstance(part, Mapping)]
        keys += [inner for table in tables for inner in secret_keys(table, f"{key}.")]
        if any(isinstance(part, str) and without_secrets(f'{name}="{part}"') != f'{name}="{part}"' for part in texts):
            keys.append(key)
    return keys
