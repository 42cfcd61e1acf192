"""What a rule sees, and short ways to say where and how bad."""

import re
from typing import NamedTuple

from ftc.diagnostic import Diagnostic, Severity, Span
from ftc.facts import Facts, Target
from ftc.recipe import Recipe
from ftc.settings import Settings
from ftc.source import Source

Path = tuple[str | int, ...]
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> bool:
    """Returns whether a revision names one commit for good, not a branch or a tag."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


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

    @property
    def train_rows(self) -> int | None:
        """Returns the training rows as they are in the files, or None where a source is not local."""
        counts = [self.facts.data.rows("train", i) for i in range(len(self.recipe.data.train))]
        return None if None in counts else sum(n for n in counts if n is not None)

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
