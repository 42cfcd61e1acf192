"""Diagnostics in rustc's manner: code, place, the line with carets, notes, hints."""

from collections.abc import Iterator

from ftc.codes import load_codes
from ftc.diagnostic import Diagnostic, Report, Span
from ftc.show.segments import Segment

_WIDTH = 100


def render_report(report: Report) -> list[Segment]:
    """Returns all diagnostics and a closing count."""
    segments: list[Segment] = []
    for diagnostic in report.diagnostics:
        segments += _render(diagnostic)
        segments.append(("\n", ""))
    return segments + _count(report) if report.diagnostics else segments


def _render(diagnostic: Diagnostic) -> Iterator[Segment]:
    yield f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity
    yield f": {_visible(diagnostic.message)}\n", "strong"
    if diagnostic.span is not None:
        yield from _render_span(diagnostic.span, diagnostic.severity, diagnostic.label)
    for note in diagnostic.notes:
        yield "note", "note"
        yield f": {_visible(note)}\n", ""
    for hint in diagnostic.hints:
        yield "hint", "hint"
        yield f": {_visible(hint)}\n", ""


def _render_span(span: Span, severity: str, label: str) -> Iterator[Segment]:
    number = str(span.line)
    yield " " * len(number) + " --> ", "gutter"
    yield f"{_visible(span.file)}:{span.line}:{span.column}\n", "place"
    start, text = _window(span)
    yield f" {number} | ", "gutter"
    yield f"{text}\n", ""
    column = span.column - 1 - start
    if 0 <= column <= len(text):
        carets = "^" * max(1, min(span.length, len(text) - column))
        yield " " * len(number) + "  | ", "gutter"
        yield f"{' ' * column}{carets}{' ' + label if label else ''}\n", severity


def _window(span: Span) -> tuple[int, str]:
    """Returns the part of a line that is shown and where it starts: all of it, or the surroundings of the span."""
    text = _visible(span.text.expandtabs(1))
    start = 0 if span.column < _WIDTH else max(0, span.column - 20)
    return start, text[start : start + _WIDTH]


def _visible(text: str) -> str:
    """Returns the text with every character that a terminal would obey replaced by a mark of the same width."""
    return "".join(ch if ch.isprintable() else "\N{REPLACEMENT CHARACTER}" for ch in text)


def _count(report: Report) -> list[Segment]:
    counts = {s: sum(d.severity == s for d in report.diagnostics) for s in ("error", "warning", "advice")}
    words = {"error": "errors", "warning": "warnings", "advice": "pieces of advice"}
    one = {"error": "error", "warning": "warning", "advice": "piece of advice"}
    said = [f"{n} {words[s] if n > 1 else one[s]}" for s, n in counts.items() if n]
    return [(", ".join(said) + "\n", "strong")]


def render_explanation(code: str) -> list[Segment] | None:
    """Returns what `ftc explain CODE` prints, or None for an unknown code."""
    entry = load_codes().get(code.upper())
    if entry is None:
        return None
    return [
        (f"{entry.severity}[{entry.code}]", entry.severity),
        (f": {entry.summary}\n\n", "strong"),
        (f"{entry.why}\n\n", ""),
        ("example\n", "note"),
        ("".join(f"    {line}\n" for line in entry.example.splitlines()) + "\n", ""),
        ("fix", "hint"),
        (f": {entry.fix}\n", ""),
    ]
