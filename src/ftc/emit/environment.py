"""The Jinja environment: strict, no autoescape, values through the filters `py` and `sh` only."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    )
    environment.filters.update(py=python_literal, sh=shell_word, md=markdown_text)
    return environment


def render(template: str, view: object) -> str:
    """Returns the template filled from one frozen view, under the name `v`."""
    return _environment().get_template(template).render(v=view)
