"""Closed lists that rules and emission share: columns of a format, roles, what needs a package."""

import re
import tomllib
from functools import cache
from typing import Any, NamedTuple

from ftc.facts.files import read_data


@cache
def load_words() -> dict[str, dict[str, Any]]:
    """Returns the tables of `words.toml`."""
    return tomllib.loads(read_data("words.toml"))


class Marks(NamedTuple):
    """Whether trl trains with a model's own chat template, and the marked template nearest to it, if any."""

    own: bool
    family: str | None


def template_marks(model_id: str) -> Marks | None:
    """Returns what is known of the marks in a model's chat template, or None where nothing is."""
    for entry in load_words()["templates"]["list"]:
        if re.match(entry["match"], model_id):
            return Marks(entry["own"], entry.get("family"))
    return None


def column_name(row_format: str, ours: str, mapped: dict[str, str] | None) -> str:
    """Returns the data's own name for our column: what the recipe maps, else the format's default, else ours."""
    default = load_words()["columns_default"].get(row_format, {}).get(ours, ours)
    return str((mapped or {}).get(ours, default))


def known_columns(row_format: str) -> tuple[str, ...]:
    """Returns every column name that `columns` may map for this format."""
    words = load_words()
    return (*words["columns"][row_format], *words["columns_optional"][row_format])
