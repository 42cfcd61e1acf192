"""Constants of the memory and the time model, each with its source in `constants.toml`."""

import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from ftc.facts.files import read_data


class Constants(NamedTuple):
    """Two tables of numbers; a key that is missing is a bug."""

    memory: Mapping[str, float]
    time: Mapping[str, Any]


@cache
def load_constants() -> Constants:
    """Returns the constants without their sources."""
    tables = tomllib.loads(read_data("constants.toml"))
    return Constants(
        memory={key: entry["value"] for key, entry in tables["memory"].items()},
        time={key: entry["value"] for key, entry in tables["time"].items()},
    )
