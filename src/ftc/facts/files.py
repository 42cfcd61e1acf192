"""Where the data files are: inside the package, read as text."""

from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"


@cache
def read_data(name: str) -> str:
    """Returns the text of a data file, named relative to `facts/data`."""
    return (DATA / name).read_text(encoding="utf-8")
