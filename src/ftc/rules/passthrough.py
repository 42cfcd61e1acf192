"""`[train.extra]`, `[adapter.extra]`, `[model.extra]`: each argument held against the pinned class that takes it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ftc.diagnostic import Diagnostic, did_you_mean, nearest
from ftc.facts import ApiClass, ApiField, load_class, load_words
from ftc.rules.context import Context

_TABLES = (("train", "SFTConfig"), ("adapter", "LoraConfig"), ("model", "from_pretrained"))


def passed_arguments(c: Context) -> Iterator[Diagnostic]:
    """FTC401 FTC402 FTC403 FTC404"""
    for table, class_name in _TABLES:
        row = getattr(c.recipe, table)
        extra: Mapping[str, Any] = (row.extra if row else None) or {}
        for name, value in extra.items():
            surface = load_class(c.facts.stack.name, class_name)
            yield from _check_argument(c, surface, (table, "extra", name), name, value)


def _check_argument(
    c: Context, surface: ApiClass, at: tuple[str, ...], name: str, value: object
) -> Iterator[Diagnostic]:
    old = surface.renamed.get(name)
    if name in surface.owned:
        key = surface.owned[name]
        hint = f"write `{key}`" if key else "remove it: ftc sets it itself"
        yield c.wrong_key("FTC403", f"`{name}` is set by ftc, so it cannot be passed through", at, hint)
    elif old is not None:
        hint = f"write `{old.use}`" if old.use else "remove it: nothing replaces it"
        message = f"`{name}` does not exist in {_versioned(c, surface)} any more"
        yield c.wrong_key("FTC402", message, at, hint, note=old.why)
    elif name not in surface.fields:
        known = [n for n in surface.fields if n not in surface.owned]
        hints = did_you_mean(name, known, limit=0) or (f"see the arguments of {surface.name}",)
        hints = _renamed_hint(surface, name) or hints
        yield c.wrong_key("FTC401", f"{_versioned(c, surface)} has no argument `{name[:80]}`", at, *hints)
    else:
        yield from _check_type(c, surface.fields[name], at, value)


def _renamed_hint(surface: ApiClass, name: str) -> tuple[str, ...]:
    """Returns the new name where a misspelt argument is nearest to an old one."""
    old = nearest(name, surface.renamed, 0.85)
    use = surface.renamed[old].use if old else None
    return (f"write `{use}`",) if use else ()


def _versioned(c: Context, surface: ApiClass) -> str:
    library = {"SFTConfig": "trl", "LoraConfig": "peft"}.get(surface.name, "transformers")
    return f"{surface.name} of {library} {c.facts.stack.versions[library]}"


def _check_type(c: Context, field: ApiField, at: tuple[str, ...], value: object) -> Iterator[Diagnostic]:
    kind = _kind(value)
    accepted = set(field.accepts)
    if not _is_plain(value):
        message = f"`{field.name}` holds a date, a time, nan or inf, which no argument takes"
        yield c.error("FTC404", message, at, "write a number, a string, a list or a table")
    elif "any" not in accepted and kind not in accepted and not (kind == "int" and "float" in accepted):
        message = f"`{field.name}` takes {field.type}, not {kind}"
        yield c.error("FTC404", message, at, f"write a value of type {' or '.join(sorted(accepted - {'null'}))}")

    elif isinstance(value, str) and field.choices and value not in field.choices:
        hints = did_you_mean(value, field.choices)
        yield c.error("FTC406", f"`{field.name}` cannot be `{value[:80]}`", at, *hints)


def values_that_stop(c: Context) -> Iterator[Diagnostic]:
    """FTC417"""
    extra = c.recipe.train.extra or {}
    for name in load_words()["above_zero"]["names"]:
        value = extra.get(name)
        if isinstance(value, int | float) and value <= 0:
            at = ("train", "extra", name)
            yield c.error("FTC417", f"`{name}` is {value}, which stops the run", at, "write 1 or more, or remove it")


def padding_free_alone(c: Context) -> Iterator[Diagnostic]:
    """FTC418"""
    if (c.recipe.train.extra or {}).get("padding_free") is True and not c.settings.packing:
        yield c.error(
            "FTC418",
            "without packing, TRL takes `padding_free` only where rows are never cut",
            ("train", "extra", "padding_free"),
            "write `[data] packing = true`, or remove `padding_free`",
        )


def workers_that_are_not_there(c: Context) -> Iterator[Diagnostic]:
    """FTC419"""
    extra = c.recipe.train.extra or {}
    for name in ("dataloader_persistent_workers", "dataloader_prefetch_factor"):
        if extra.get(name) and not extra.get("dataloader_num_workers"):
            at = ("train", "extra", name)
            yield c.error("FTC419", f"`{name}` needs workers, there are none", at, "add `dataloader_num_workers = 2`")


def _is_plain(value: object) -> bool:
    """Returns whether Python source and JSON can both say the value."""
    match value:
        case dict():
            return all(_is_plain(inner) for inner in value.values())
        case list():
            return all(_is_plain(inner) for inner in value)
        case float():
            return math.isfinite(value)
        case _:
            return isinstance(value, bool | int | str)


def _kind(value: object) -> str | None:
    for kind, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        (str, "str"),
        (list, "list"),
        (dict, "dict"),
    ):
        if isinstance(value, kind):
            return name
    return None


def scheduler_arguments(c: Context) -> Iterator[Diagnostic]:
    """FTC405"""
    given = (c.recipe.train.extra or {}).get("lr_scheduler_kwargs")
    known = c.facts.stack.scheduler_arguments.get(c.settings.scheduler, ())
    for name in given if isinstance(given, dict) else ():
        if name not in known and "*" not in known:
            at = ("train", "extra", "lr_scheduler_kwargs", name)
            hints = did_you_mean(name, known) or ("remove it",)
            yield c.wrong_key("FTC405", f"scheduler `{c.settings.scheduler}` has no argument `{name[:80]}`", at, *hints)


RULES = (passed_arguments, scheduler_arguments, values_that_stop, padding_free_alone, workers_that_are_not_there)
