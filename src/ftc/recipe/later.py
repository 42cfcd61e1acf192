"""Words of the recipe language whose machinery is not built yet: refused by name, never accepted and ignored."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftc.diagnostic import Diagnostic
from ftc.source import KeyPath, Source

_METHODS = frozenset(
    (
        "dpo",
        "reward",
        "kto",
        "grpo",
        "rloo",
        "orpo",
        "cpo",
        "simpo",
        "gkd",
        "online-dpo",
        "pretrain",
        "classify",
    )
)
_VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    ("method", "kind"): _METHODS,
    ("plan", "strategy"): frozenset(("hsdp",)),
    ("plan", "offload"): frozenset(("nvme",)),
    ("plan", "kernels"): frozenset(("liger", "hub")),
    ("plan", "objective"): frozenset(("cost",)),
}
_FORMATS = frozenset(("preference", "unpaired", "prompts", "tokenized"))
_KEYS: frozenset[tuple[str, str]] = frozenset((("output", "push_to"),))
_INSTEAD: Mapping[str, str] = {
    "dpo": 'write `kind = "sft"`',
    "hsdp": 'write `strategy = "fsdp2"`',
    "nvme": 'write `offload = "optimizer"`',
    "cost": 'write `objective = "time"`',
    "pretrain": 'write `kind = "sft"` with `format = "text"` and `loss_on = "all"`',
    "push_to": "remove the key and upload `run/model` with `hf upload` after training",
}


def find_later(source: Source) -> Iterator[tuple[KeyPath, Diagnostic]]:
    """Yields the path of everything that belongs to a later release, with its diagnostic."""
    for (table, key), words in _VALUES.items():
        value = _at(source.data, table, key)
        if isinstance(value, str) and value in words:
            yield (table, key), _later(source, f'`{key} = "{value}"`', (table, key), value)
    for table, key in _KEYS:
        if _at(source.data, table, key) is not None:
            yield (table, key), _later(source, f"`{key}`", (table, key), key)
    for part in ("train", "eval"):
        rows = _at(source.data, "data", part)
        for index, row in enumerate(rows if isinstance(rows, list) else []):
            word = row.get("format") if isinstance(row, dict) else None
            if isinstance(word, str) and word in _FORMATS:
                path: KeyPath = ("data", part, index, "format")
                yield path, _later(source, f'`format = "{word}"`', path, word)


def _at(data: Mapping[str, Any], table: str, key: str) -> Any:
    value = data.get(table)
    return value.get(key) if isinstance(value, dict) else None


def _later(source: Source, what: str, path: KeyPath, word: str) -> Diagnostic:
    hint = _INSTEAD.get(word) or (_INSTEAD["dpo"] if word in _METHODS else "use a format for supervised fine-tuning")
    return Diagnostic(
        code="FTC106",
        severity="error",
        message=f"{what} is part of the recipe language but not of this release",
        span=source.value(*path),
        hints=(hint,),
    )
