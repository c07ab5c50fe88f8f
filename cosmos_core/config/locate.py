"""Key path -> line of a TOML text. tomlkit and tomllib keep no positions, so the text is scanned again."""

from __future__ import annotations

import re
import tomllib

__all__ = ["KeyPath", "how_to_set", "key_text", "locate"]

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def key_text(path: KeyPath) -> str:
    """``optimizer.lr_multipliers."model.visual"`` for a key path; list elements as ``[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        bare = _BARE.fullmatch(part)
        text += ("." if text else "") + (part if bare else f'"{part}"')
    return text


def how_to_set(path: KeyPath) -> str:
    """The hint for a value that is missing. The command line takes lists as a whole, not their elements."""
    if any(isinstance(part, int) for part in path):
        return "set it there"
    return f"set it, e.g. {key_text(path)}=VALUE on the command line"


def locate(text: str) -> dict[KeyPath, int]:
    """1-based line of every table, key and list element in `text`, which must already have parsed as TOML."""
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}
        self.last_element: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        prefix: KeyPath = ()
        while True:
            self._skip(newlines=True)
            if self.at >= len(self.text):
                return self.lines
            if self.text.startswith("[[", self.at):
                prefix = self._array_header()
            elif self.text[self.at] == "[":
                prefix = self._table_header()
            else:
                self._pair(prefix)

    def _skip(self, *, newlines: bool) -> None:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\n" and newlines:
                self.line += 1
            elif char == "#" and newlines:
                self.at = self.text.find("\n", self.at)
                if self.at < 0:
                    self.at = len(self.text)
                continue
            elif char not in " \t\r":
                return
            self.at += 1

    def _table_header(self) -> KeyPath:
        line = self.line
        self.at += 1
        path = self._resolve(self._key())
        self.at += 1
        self._record(path, line)
        return path

    def _array_header(self) -> KeyPath:
        line = self.line
        self.at += 2
        key = self._key()
        self.at += 2
        base = (*self._resolve(key[:-1]), key[-1])
        self.last_element[base] = self.last_element.get(base, -1) + 1
        path = (*base, self.last_element[base])
        self._record(path, line)
        return path

    def _resolve(self, key: tuple[str, ...]) -> KeyPath:
        path: KeyPath = ()
        for part in key:
            path = (*path, part)
            if path in self.last_element:
                path = (*path, self.last_element[path])
        return path

    def _record(self, path: KeyPath, line: int) -> None:
        for depth in range(1, len(path)):
            self.lines.setdefault(path[:depth], line)
        self.lines[path] = line

    def _pair(self, prefix: KeyPath) -> None:
        line = self.line
        key = self._key()
        self.at += 1  # the equals sign
        self._skip(newlines=False)
        path = (*prefix, *key)
        for depth in range(len(prefix) + 1, len(path) + 1):
            self.lines.setdefault(path[:depth], line)
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(newlines=False)
            if self.text[self.at] in "\"'":
                parts.append(next(iter(tomllib.loads(f"{self._string()} = 0"))))
            else:
                match = _BARE.match(self.text, self.at)
                assert match is not None
                parts.append(match.group())
                self.at = match.end()
            self._skip(newlines=False)
            if self.at < len(self.text) and self.text[self.at] == ".":
                self.at += 1
            else:
                return tuple(parts)

    def _string(self) -> str:
        start, quote = self.at, self.text[self.at]
        width = 3 if self.text.startswith(quote * 3, self.at) else 1
        self.at += width
        while not self.text.startswith(quote * width, self.at):
            if self.text[self.at] == "\\" and quote == '"':
                self.at += 1
            if self.text[self.at] == "\n":
                self.line += 1
            self.at += 1
        self.at += width
        while width == 3 and self.text.startswith(quote, self.at):
            self.at += 1  # a multi-line string may end with up to two quotes that belong to it
        return self.text[start : self.at]

    def _value(self, path: KeyPath) -> None:
        char = self.text[self.at]
        if char in "\"'":
            self._string()
        elif char == "[":
            self._list(path)
        elif char == "{":
            self._inline_table(path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n\r":
                self.at += 1

    def _list(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(newlines=True)
            if self.text[self.at] == "]":
                self.at += 1
                return
            self.lines[(*path, index)] = self.line
            self._value((*path, index))
            index += 1
            self._skip(newlines=True)
            if self.text[self.at] == ",":
                self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self._skip(newlines=True)
            if self.text[self.at] == "}":
                self.at += 1
                return
            self._pair(path)
            self._skip(newlines=True)
            if self.text[self.at] == ",":
                self.at += 1
