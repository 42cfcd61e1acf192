"""Everything that is known when a recipe is compiled: the model, the stack, the target, the data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ftc.facts.gpus import Target
from ftc.facts.models import ModelFacts
from ftc.facts.stacks import StackFacts


class RowFacts(NamedTuple):
    """What probing one local data file told. `text_bytes` sums the strings of all rows, a bound on their tokens."""

    path: str
    sha256: str
    size_bytes: int
    rows: int | None
    columns: tuple[str, ...]
    text_bytes: int | None
    longest_text_bytes: int | None
    roles: tuple[str, ...] = ()


class DataFacts(NamedTuple):
    """The sources of a recipe: (part, index) -> its files, empty where it lives on the hub; weights by index."""

    files: Mapping[tuple[str, int], tuple[RowFacts, ...]] = MappingProxyType({})
    weights: Mapping[int, float] = MappingProxyType({})

    def rows(self, part: str, index: int) -> int | None:
        """Returns the number of rows of a source, or None where it is not known."""
        files = self.files.get((part, index), ())
        counts = [f.rows for f in files]
        return sum(c for c in counts if c is not None) if files and None not in counts else None


class LocalModel(NamedTuple):
    """A model folder beside the recipe: its files (relative name -> (sha256, bytes))."""

    folder: str
    files: Mapping[str, tuple[str, int]]


class Facts(NamedTuple):
    """What the names in a recipe stand for. `target` is None where only the recipe is checked."""

    model: ModelFacts
    stack: StackFacts
    target: Target | None
    data: DataFacts
    local_model: LocalModel | None = None
    template_file: tuple[str, str] | None = None  # (path, text) of a chat template beside the recipe
