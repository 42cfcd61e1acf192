"""Closed lists that rules and emission share: columns of a format, roles, what needs a package."""

import tomllib
from functools import cache
from typing import Any

from ftc.facts.files import read_data


@cache
def load_words() -> dict[str, dict[str, Any]]:
    """Returns the tables of `words.toml`."""
    return tomllib.loads(read_data("words.toml"))


def column_name(row_format: str, ours: str, mapped: dict[str, str] | None) -> str:
    """Returns the data's own name for our column: what the recipe maps, else the format's default, else ours."""
    default = load_words()["columns_default"].get(row_format, {}).get(ours, ours)
    return str((mapped or {}).get(ours, default))


def known_columns(row_format: str) -> tuple[str, ...]:
    """Returns every column name that `columns` may map for this format."""
    words = load_words()
    return (*words["columns"][row_format], *words["columns_optional"][row_format])
