"""The Jinja environment: strict, no autoescape, values through the filters `py` and `sh` only."""

import os
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

from ftc.emit.quoting import markdown_text, python_literal, shell_word

TEMPLATES = Path(__file__).parent.parent / "templates"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        auto_reload=False,
        bytecode_cache=_bytecode_cache(),
    )
    environment.filters.update(py=python_literal, sh=shell_word, md=markdown_text)
    return environment


def _bytecode_cache() -> FileSystemBytecodeCache | None:
    """Returns a cache beside the templates, as Python keeps one beside its modules; None where it cannot be written.

    Jinja keys it by the template's own text, so it is never stale.
    """
    folder = TEMPLATES / "__pycache__"
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return FileSystemBytecodeCache(str(folder)) if os.access(folder, os.W_OK) else None


def render(template: str, view: object) -> str:
    """Returns the template filled from one frozen view, under the name `v`."""
    return _environment().get_template(template).render(v=view)
