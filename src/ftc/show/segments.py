"""Text in styled pieces: one truth, rendered plain or with colour, never as markup."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

Segment = tuple[str, str]

STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "advice": "bold cyan",
    "place": "cyan",
    "gutter": "blue",
    "note": "bold",
    "hint": "green",
    "strong": "bold",
    "": "",
}


def plain(segments: Iterable[Segment]) -> str:
    """Returns the text without its styles."""
    return "".join(text for text, _ in segments)


def coloured(segments: Iterable[Segment]) -> "Text":
    """Returns the text as a rich value; control characters were escaped before."""
    from rich.text import Text  # noqa: PLC0415 (start-up: only a terminal needs rich)

    text = Text()
    for piece, style in segments:
        text.append(piece, STYLES[style])
    return text
