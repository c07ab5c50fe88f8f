"""What may have happened to a file of a user: damage, wrong types, absurd sizes, hostile names, another kind."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

__all__ = ["mutate", "replace_file"]

NAMES = ("a\0b", "x" * 300, "x/" * 3000, "../../../etc/passwd", "/etc/passwd", "/", ".", "\udcff", "C:\\x", "loop", "~")
"""Of which some are no names, some too long, and some lead elsewhere."""
RAW = (
    *("null", "true", "false", "0", "-1", "1", "2", "1.5", "1e400", "-1e400", "NaN", "1" + "0" * 400, "9" * 5000),
    *("4294967296", "9223372036854775808", "-9223372036854775808", '""', '" "', "[]", "{}", "[[]]", '[""]', "[null]"),
    *('{"a": 1}', '"\\ud800"', '"\\u0000"', "[" * 100_000, "[" * 90 + "]" * 90, '{"a":' * 500 + "1" + "}" * 500),
    *('"1"', '"qwen3_vl"', "[1, 2]", "[-1]", '["a", "b"]', "1e-300", "16384", '"http://x/y"'),
)
"""Values of JSON, as they are written."""
CELLS = ("", " ", "\0", '"', ",", "\t", "\n", "é" * 50, "\ufeff", "9" * 400, "1e400", "nan", "-1", "[" * 2000)
PLACE = "@here@"


def mutate(content: bytes, name: str, chance: random.Random) -> bytes:
    """The content of a file after one to three accidents."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if name.endswith((".json", ".jsonl")) and chance.random() < 0.7:
            content = _other_value(content, chance)
        elif name.endswith((".csv", ".tsv", ".txt", ".jinja", ".toml", ".yaml")) and chance.random() < 0.5:
            content = _other_word(content, chance)
        else:
            content = _damaged(content, chance)
    return content


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Bits turned, ends lost, parts moved, other encodings."""
    data, kind = bytearray(content), chance.randrange(10)
    at = chance.randrange(len(data) + 1)
    size = chance.choice((1, 4, 16, 64))
    if kind < 2 and data:
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        data[at : at + size] = chance.randbytes(size)
    elif kind == 4:
        del data[at : at + size]
    elif kind == 5:
        data[at:at] = data[chance.randrange(len(data) + 1) :][:size]
    elif kind == 6:
        data[at:at] = chance.choice((b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b'"', b"{" * 2000))
    elif kind == 7:
        data[at : at + 8] = chance.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 7 + b"\x80"))
    elif kind == 8:
        return chance.choice((b"", b"\0", b"\xff\xfe", b"\n\n", chance.randbytes(200), b"\x1f\x8b", b"PK\3\4", b"null"))
    else:
        return content.decode("utf-8", "replace").encode(chance.choice(("utf-16", "utf-32", "utf-16-le", "utf-8-sig")))
    return bytes(data)


def _other_word(content: bytes, chance: random.Random) -> bytes:
    text = content.decode("utf-8", "surrogateescape")
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.choice((0, 1, 8)))
    return (text[:start] + chance.choice((*CELLS, *NAMES)) + text[end:]).encode("utf-8", "surrogatepass")


def _other_value(content: bytes, chance: random.Random) -> bytes:
    """One value, or one key, of a JSON text is another."""
    lines = content.split(b"\n")
    number = chance.randrange(len(lines)) if content.count(b"\n{") else None
    try:
        value = json.loads(content if number is None else lines[number])
    except (ValueError, RecursionError):
        return _damaged(content, chance)
    text = _put(value, chance)
    if number is None:
        return text
    return b"\n".join([*lines[:number], text, *lines[number + 1 :]])


def _put(value: Any, chance: random.Random) -> bytes:
    places = list(_places(value))
    if not places:
        return chance.choice(RAW).encode()
    holder, key = chance.choice(places)
    kind = chance.randrange(8)
    new = json.dumps(chance.choice(NAMES)) if kind < 2 else chance.choice(RAW)
    if kind == 7:
        del holder[key]
    elif kind == 6 and isinstance(holder, dict):
        holder[chance.choice(("other", "", "caption", "size"))] = holder.pop(key)
    else:
        holder[key] = PLACE
    return json.dumps(value).replace(json.dumps(PLACE), new, 1).encode()


def _places(value: Any) -> Any:
    """Every container below a value with each of its keys or indices."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)


def replace_file(path: Path, chance: random.Random) -> None:
    """Something else is where a file was, or nothing is."""
    kind = chance.randrange(6)
    path.unlink()
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(path.name)
    elif kind == 2:
        path.symlink_to("nowhere")
    elif kind == 3:
        path.symlink_to(path.parent)
    elif kind == 4 and path.parent.name != "fuzzed":
        shutil.rmtree(path.parent)
        path.parent.write_bytes(b"a file")
