"""What stands in for a key that the recipe leaves out, with the reason that the bundle's README quotes."""

import tomllib
from functools import cache
from typing import Any, NamedTuple

from ftc.facts.files import read_data


class Default(NamedTuple):
    """A value and why it is the default."""

    value: Any
    because: str


@cache
def load_defaults() -> dict[str, Default]:
    """Returns `table.key` -> its default. Names with a third part are defaults of a special case."""
    tables = tomllib.loads(read_data("defaults.toml"))
    return {
        f"{table}.{key}": Default(value=entry.get("value"), because=entry["because"])
        for table, entries in tables.items()
        for key, entry in entries.items()
    }
