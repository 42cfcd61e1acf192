"""TOML text with the position of every key and value in it.

`tomllib` validates and gives the values but no positions, so a scanner walks the text that tomllib has already
accepted and notes where each key and value stands, inside inline tables and arrays too.
"""

import re
import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ftc.diagnostic import Diagnostic, Span

KeyPath = tuple[str | int, ...]

MAX_RECIPE_BYTES = 2 * 2**20
MAX_DEPTH = 32
_KEPT_COLUMNS = 2000  # of a line; what lies further right is named by its column only


class Source(NamedTuple):
    """One TOML file: its name as the user wrote it, its text, the parsed values and where they stand."""

    file: str
    text: str
    data: Mapping[str, Any]
    keys: Mapping[KeyPath, Span] = MappingProxyType({})
    values: Mapping[KeyPath, Span] = MappingProxyType({})

    def key(self, *path: str | int) -> Span:
        """Returns where the key stands, or its nearest ancestor that is written down."""
        return self._find(self.keys, path)

    def value(self, *path: str | int) -> Span:
        """Returns where the value stands, or the nearest ancestor's key."""
        return self.values[path] if path in self.values else self._find(self.keys, path)

    def has(self, *path: str | int) -> bool:
        return path in self.keys

    def _find(self, spans: Mapping[KeyPath, Span], path: KeyPath) -> Span:
        for end in range(len(path), 0, -1):
            if path[:end] in spans:
                return spans[path[:end]]
        return line_span(self.file, self.text, 0, 1)


def line_span(file: str, text: str, start: int, length: int) -> Span:
    """Returns the span of `length` characters at offset `start`, cut at the end of its line."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line = text[line_start : line_end if line_end >= 0 else len(text)].rstrip("\r")
    column = start - line_start
    return Span(
        file=file,
        line=text.count("\n", 0, start) + 1,
        column=column + 1,
        length=max(1, min(length, len(line) - column)),
        text=line[:_KEPT_COLUMNS],
    )


def parse_source(raw: bytes, file: str) -> Source | Diagnostic:
    """Returns the parsed file, or the one diagnostic that says why it is not TOML."""
    if len(raw) > MAX_RECIPE_BYTES:
        return Diagnostic(
            code="FTC003",
            severity="error",
            message=f"`{file}` has {len(raw)} bytes, a recipe may have {MAX_RECIPE_BYTES}",
            hints=("keep data in files of their own and name them under `[[data.train]]`",),
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(raw, file, error)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits, too
        return _syntax_error(text, file, str(error))
    if _is_deep(data):
        hint = "a recipe has tables of tables, and no more"
        message = f"`{file}` is nested more than {MAX_DEPTH} deep"
        return Diagnostic(code="FTC005", severity="error", message=message, hints=(hint,))
    keys, values = _Scanner(text, file).scan()
    return Source(file=file, text=text, data=data, keys=keys, values=values)


def _is_deep(data: Any) -> bool:
    """Returns whether values are nested deeper than anything here means to walk."""
    level = [data]
    for _ in range(MAX_DEPTH):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [value for values in inner for value in values]
    return bool(level)


def _not_utf8(raw: bytes, file: str, error: UnicodeDecodeError) -> Diagnostic:
    text = raw.decode("utf-8", errors="replace")
    offset = len(raw[: error.start].decode("utf-8", errors="replace"))
    return Diagnostic(
        code="FTC002",
        severity="error",
        message=f"byte {error.start} is not UTF-8",
        span=line_span(file, text, offset, 1),
        hints=("save the file as UTF-8",),
    )


def _syntax_error(text: str, file: str, message: str) -> Diagnostic:
    at = re.search(r"\(at line (\d+), column (\d+)\)", message)
    if at:
        lines = text.split("\n")
        line = int(at[1])
        offset = sum(len(part) + 1 for part in lines[: line - 1]) + int(at[2]) - 1
    else:
        offset = max(0, len(text.rstrip()) - 1)
    reason = re.sub(r"\s*\(at .*\)$", "", message)
    return Diagnostic(
        code="FTC001",
        severity="error",
        message=f"not valid TOML: {reason[:1].lower()}{reason[1:]}",
        span=line_span(file, text, min(offset, max(0, len(text) - 1)), 1),
        hints=("strings need quotes, a table is `[name]`, one entry of a list of tables is `[[name]]`",),
    )


class _Scanner:
    """Walks text that tomllib has accepted; so it need not report errors, only find its way."""

    _BARE = re.compile(r"[A-Za-z0-9_-]+")
    _SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
    _BLANK = re.compile(r"[ \t]*")
    _SCALAR = re.compile(r"[^,\]}\n#]*")

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self.keys: dict[KeyPath, Span] = {}
        self.values: dict[KeyPath, Span] = {}
        self.array_lengths: dict[KeyPath, int] = {}

    def scan(self) -> tuple[Mapping[KeyPath, Span], Mapping[KeyPath, Span]]:
        table: KeyPath = ()
        while True:
            self._skip(self._SPACE)
            if self.at >= len(self.text):
                return MappingProxyType(self.keys), MappingProxyType(self.values)
            table = self._header() if self.text[self.at] == "[" else self._pair(table, table)

    def _header(self) -> KeyPath:
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        path, spans = self._dotted()
        self.at += 2 if is_array else 1
        full: KeyPath = ()
        for index, (name, span) in enumerate(zip(path, spans, strict=True)):
            full = (*full, name)
            self.keys.setdefault(full, span)
            if index < len(path) - 1 or not is_array:
                if full in self.array_lengths:
                    full = (*full, self.array_lengths[full] - 1)
            else:
                count = self.array_lengths.get(full, 0)
                self.array_lengths[full] = count + 1
                full = (*full, count)
                self.keys[full] = span
        return full

    def _pair(self, table: KeyPath, then: KeyPath) -> KeyPath:
        path, spans = self._dotted()
        full = table
        for name, span in zip(path, spans, strict=True):
            full = (*full, name)
            self.keys.setdefault(full, span)
        self.at += 1  # the "="
        self._skip(self._BLANK)
        self._value(full)
        return then

    def _dotted(self) -> tuple[list[str], list[Span]]:
        names: list[str] = []
        spans: list[Span] = []
        while True:
            self._skip(self._BLANK)
            start = self.at
            names.append(self._key_part())
            spans.append(line_span(self.file, self.text, start, self.at - start))
            self._skip(self._BLANK)
            if self.text[self.at] != ".":
                return names, spans
            self.at += 1

    def _key_part(self) -> str:
        start = self.at
        if self.text[start] in "\"'":
            self._string()
            return str(tomllib.loads("k = " + self.text[start : self.at])["k"])
        match = self._BARE.match(self.text, start)
        assert match is not None
        self.at = match.end()
        return match[0]

    def _value(self, path: KeyPath) -> None:
        start = self.at
        match self.text[start]:
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self._skip(self._SCALAR)
                self.at = start + len(self.text[start : self.at].rstrip())
        self.values[path] = line_span(self.file, self.text, start, self.at - start)

    def _string(self) -> None:
        quote = self.text[self.at]
        triple = self.text.startswith(quote * 3, self.at)
        self.at += 3 if triple else 1
        end = quote * 3 if triple else quote
        while not self.text.startswith(end, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        self.at += len(end)
        while triple and self.text.startswith(quote, self.at):  # up to two quotes may end the text itself
            self.at += 1

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(self._SPACE)
            if self.text[self.at] == "]":
                self.at += 1
                return
            start = self.at
            self._value((*path, index))
            self.keys[(*path, index)] = line_span(self.file, self.text, start, self.at - start)
            index += 1
            self._comma()

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self._skip(self._SPACE)
            if self.text[self.at] == "}":
                self.at += 1
                return
            self._pair(path, path)
            self._comma()

    def _comma(self) -> None:
        self._skip(self._SPACE)
        if self.text[self.at] == ",":
            self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
