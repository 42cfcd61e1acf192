"""What a rule sees, and short ways to say where and how bad."""

from typing import NamedTuple

from ftc.diagnostic import Diagnostic, Severity, Span
from ftc.facts import Facts, Target
from ftc.recipe import Recipe
from ftc.settings import Settings
from ftc.source import Source

Path = tuple[str | int, ...]


class Context(NamedTuple):
    """The recipe with its text, the facts behind its names, and the values with defaults filled in."""

    recipe: Recipe
    source: Source
    facts: Facts
    settings: Settings
    locked: bool = False

    @property
    def target(self) -> Target | None:
        return self.facts.target

    def error(self, code: str, message: str, at: Path, *hints: str, note: str = "", label: str = "") -> Diagnostic:
        return self._say("error", code, message, at, hints, note, label)

    def wrong_key(self, code: str, message: str, at: Path, *hints: str, note: str = "") -> Diagnostic:
        """Returns an error about the key itself, not its value."""
        return self.error(code, message, at, *hints, note=note)._replace(span=self.source.key(*at))

    def warning(self, code: str, message: str, at: Path, *hints: str, note: str = "") -> Diagnostic:
        return self._say("warning", code, message, at, hints, note, "")

    def advice(self, code: str, message: str, at: Path, *hints: str, note: str = "") -> Diagnostic:
        return self._say("advice", code, message, at, hints, note, "")

    def _say(
        self,
        severity: Severity,
        code: str,
        message: str,
        at: Path,
        hints: tuple[str, ...],
        note: str,
        label: str,
    ) -> Diagnostic:
        return Diagnostic(
            code=code,
            severity=severity,
            message=message,
            span=self.span(at),
            label=label,
            notes=(note,) if note else (),
            hints=hints,
        )

    def span(self, at: Path) -> Span:
        """Returns the value at a path where it is written, else the key of its nearest ancestor."""
        return self.source.value(*at) if self.source.has(*at) else self.source.key(*at)
