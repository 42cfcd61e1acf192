"""Local data files -> rows, columns, lengths and sha256; a broken line is named by its number."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftc.diagnostic import Diagnostic, Span
from ftc.facts import RowFacts
from ftc.paths import path_fault

EXTENSIONS: Mapping[str, str] = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}


@dataclass(slots=True)
class _Tally:
    """What reading a file row by row adds up to."""

    role_key: str
    rows: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)
    text_bytes: int = 0
    longest: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows += 1
        for name, value in row.items():
            if value is not None:
                self.columns[name] = self.columns.get(name, 0) + 1
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in self._texts(row))
        self.text_bytes += size
        self.longest = max(self.longest, size)

    def _texts(self, value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            role = value.get(self.role_key)
            if isinstance(role, str):
                self.roles.add(role)
            for inner in value.values():
                yield from self._texts(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from self._texts(inner)


class _BrokenRow(Exception):
    def __init__(self, line: int, why: str, text: str) -> None:
        super().__init__(why)
        self.line, self.why, self.text = line, why, text


def probe_files(
    folder: Path, pattern: str, span: Span, *, role_key: str = "role"
) -> tuple[tuple[RowFacts, ...], tuple[Diagnostic, ...]]:
    """Returns the facts of every file that `pattern` names below `folder`, and what is wrong with them."""
    paths = _expand(folder, pattern)
    if not paths:
        return (), (_not_found(folder, pattern, span),)
    facts: list[RowFacts] = []
    faults: list[Diagnostic] = []
    for path in paths:
        found = _probe_file(folder, path, span, role_key, stamp(path))
        (facts if isinstance(found, RowFacts) else faults).append(found)  # type: ignore[arg-type]
    return tuple(facts), tuple(faults)


def _expand(folder: Path, pattern: str) -> list[Path]:
    if any(mark in pattern for mark in "*?["):
        return sorted(p for p in folder.glob(pattern) if p.is_file() and p.suffix in EXTENSIONS)
    path = folder / pattern
    return [path] if path.is_file() else []


def _not_found(folder: Path, pattern: str, span: Span) -> Diagnostic:
    parent = (folder / pattern).parent
    there = sorted(p.name for p in parent.iterdir() if p.suffix in EXTENSIONS)[:8] if parent.is_dir() else []
    hint = f"there: {', '.join(f'`{n}`' for n in there)}" if there else "the path is relative to the recipe's folder"
    return Diagnostic(code="FTC501", severity="error", message=f"no file `{pattern}`", span=span, hints=(hint,))


def stamp(path: Path) -> tuple[int, int]:
    """Returns what changes when a file does: its size and the time of its last change, in nanoseconds."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)  # hints and hardware tables try many plans over the same files
def _probe_file(folder: Path, path: Path, span: Span, role_key: str, _stamp: tuple[int, int]) -> RowFacts | Diagnostic:
    name = path.relative_to(folder).as_posix()
    fault = path_fault(name)
    if fault is not None:
        message = f"the pattern finds {name!a}, which cannot be used: {fault}"
        return Diagnostic(code="FTC601", severity="error", message=message, span=span, hints=("rename that file",))
    raw = path.read_bytes()
    if not raw.strip():
        hint = "write at least one row into it, or remove the source"
        return Diagnostic(code="FTC502", severity="error", message=f"`{name}` is empty", span=span, hints=(hint,))
    tally = _Tally(role_key=role_key)
    readable = path.suffix in (".json", ".jsonl", ".csv")
    try:
        for row in _rows(path.suffix, raw) if readable else ():
            tally.add(row)
    except _BrokenRow as broken:
        return _broken(name, broken)
    if readable and not tally.rows:
        hint = "write at least one row into it, or remove the source"
        return Diagnostic(code="FTC502", severity="error", message=f"`{name}` has no rows", span=span, hints=(hint,))
    return RowFacts(
        path=name,
        sha256=hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
        rows=tally.rows if readable else None,
        columns=tuple(n for n, c in tally.columns.items() if c == tally.rows),
        text_bytes=tally.text_bytes if readable else None,
        longest_text_bytes=tally.longest if readable else None,
        roles=tuple(sorted(tally.roles)),
    )


def _rows(suffix: str, raw: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _BrokenRow(line, "it is not UTF-8", "") from error
    if suffix == ".csv":
        yield from _csv_rows(text)
    elif text.lstrip().startswith("["):
        yield from _array_rows(text)
    else:
        yield from _json_lines(text.split("\n"))


def _csv_rows(text: str) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise _BrokenRow(reader.line_num, "it has another number of cells than the header", "")
            yield row
    except csv.Error as error:
        raise _BrokenRow(reader.line_num, str(error), "") from error


def _array_rows(text: str) -> Iterator[Mapping[str, Any]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise _BrokenRow(error.lineno, f"not JSON: {error.msg}", _line(text, error.lineno)) from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise _BrokenRow(1, f"entry {number} is not an object", "")
        yield row


def _json_lines(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise _BrokenRow(number, f"not JSON: {getattr(error, 'msg', 'nested too deep')}", line) from error
        if not isinstance(row, dict):
            raise _BrokenRow(number, "not a JSON object", line)
        yield row


def _line(text: str, number: int) -> str:
    return text.split("\n")[number - 1]


def _broken(name: str, broken: _BrokenRow) -> Diagnostic:
    text = broken.text[:200]
    span = Span(file=name, line=broken.line, column=1, length=max(1, min(len(text), 60)), text=text)
    return Diagnostic(
        code="FTC503",
        severity="error",
        message=f"line {broken.line} of `{name}` cannot be read: {broken.why}",
        span=span,
        hints=(
            "mend or remove that line; every line is one JSON object"
            if not name.endswith(".csv")
            else "mend that line",
        ),
    )
