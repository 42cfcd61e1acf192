"""Diagnostics are values: what is wrong, where, and what to type instead. Nothing here prints."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "advice"]


class Span(NamedTuple):
    """A stretch of one source line. `line` and `column` count from 1; `text` is the whole line."""

    file: str
    line: int
    column: int
    length: int
    text: str


class Diagnostic(NamedTuple):
    """One finding. `message` is a short phrase without a final period; a hint says what to type."""

    code: str
    severity: Severity
    message: str
    span: Span | None = None
    label: str = ""
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


class Report(NamedTuple):
    """All diagnostics of a run, in source order."""

    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self.diagnostics)


def make_report(diagnostics: Iterable[Diagnostic]) -> Report:
    """Returns the report in a stable order: by file position, then by code, without repeats."""
    unique = dict.fromkeys(diagnostics)
    return Report(diagnostics=tuple(sorted(unique, key=_position)))


def _position(diagnostic: Diagnostic) -> tuple[str, int, int, str]:
    span = diagnostic.span
    if span is None:
        return ("~", 0, 0, diagnostic.code)
    return (span.file, span.line, span.column, diagnostic.code)


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the candidate that `word` is most likely a misspelling of, compared without case."""
    by_folded = {c.casefold(): c for c in candidates}
    folded = word[:200].casefold()
    found = difflib.get_close_matches(folded, by_folded, n=3, cutoff=cutoff)
    return (
        by_folded[
            min(found, key=lambda candidate: (_typing_slips(folded, candidate), sorted(candidate) != sorted(folded)))
        ]
        if found
        else None
    )


def _typing_slips(left: str, right: str) -> int:
    """Returns the optimal string alignment distance: letters dropped, added, replaced, or swapped with a neighbour."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(right, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def did_you_mean(word: str, candidates: Sequence[str], *, limit: int = 12) -> tuple[str, ...]:
    """Returns one hint: the nearest candidate, or all of them where none is near and they are few."""
    best = nearest(word, candidates)
    if best is not None:
        return (f"write `{best}`",)
    shown = ", ".join(f"`{c}`" for c in list(candidates)[:limit])
    more = f" and {len(candidates) - limit} more" if len(candidates) > limit else ""
    return (f"one of {shown}{more}",) if candidates else ()
