"""What stands in for a key that the recipe leaves out, with the reason that the bundle's README quotes."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from ftc.facts.files import read_data


@dataclass(frozen=True, kw_only=True, slots=True)
class Default:
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
