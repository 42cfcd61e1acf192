"""Source -> Recipe, or every diagnostic about its shape at once."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ftc.diagnostic import Diagnostic, Span, did_you_mean, nearest
from ftc.recipe.later import find_later
from ftc.recipe.tables import Recipe
from ftc.source import KeyPath, Source

_NEAR = 0.6
_DEEPEST = 8
_TYPE_WORDS: Mapping[str, str] = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def load_recipe(source: Source) -> tuple[Recipe | None, tuple[Diagnostic, ...]]:
    """Returns the recipe, or None and all that is wrong with the file's shape."""
    later = dict(find_later(source))
    try:
        recipe = Recipe.model_validate(dict(source.data))
    except ValidationError as error:
        found = tuple(_translate(source, error.errors(include_url=False), later))
        return None, (*later.values(), *found)
    return (None, tuple(later.values())) if later else (recipe, ())


def apply_overrides(source: Source, overrides: Sequence[str]) -> tuple[Source, tuple[Diagnostic, ...]]:
    """Returns the source with each `table.key=value` of `--set` put in; the value is TOML, or else plain text."""
    diagnostics: list[Diagnostic] = []
    for text in overrides:
        name, equals, raw = text.partition("=")
        path = tuple(part.strip() for part in name.split("."))
        sayable = equals and text.isprintable() and all(path) and len(path) <= _DEEPEST
        if not sayable or not _settable(source.data, path):
            diagnostics.append(_bad_override(text))
            continue
        data = _with_value(source.data, path, _override_value(raw.strip()))
        spans: dict[KeyPath, Span] = {
            path[:end]: _override_span(text) for end in range(1, len(path) + 1) if path[:end] not in source.keys
        }
        spans[path] = _override_span(text)
        source = source._replace(
            data=data,
            keys=MappingProxyType({**source.keys, **spans}),
            values=MappingProxyType({**source.values, path: _override_span(text)}),
        )
    return source, tuple(diagnostics)


def _settable(data: Mapping[str, Any], path: Sequence[str]) -> bool:
    here: Any = data
    for part in path[:-1]:
        here = here.get(part, {})
        if not isinstance(here, Mapping):
            return False
    return True


def _override_value(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):  # tomllib raises plain ValueError for a number of thousands of digits
        return raw


def _with_value(data: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    head, *rest = path
    return {**data, head: _with_value(data.get(head, {}), rest, value) if rest else value}


def _override_span(text: str) -> Span:
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return Span(file="--set", line=1, column=1, length=max(1, len(plain.partition("=")[0])), text=plain[:2000])


def _bad_override(text: str) -> Diagnostic:
    return Diagnostic(
        code="FTC118",
        severity="error",
        message="`--set` takes one `table.key=value`",
        span=_override_span(text),
        hints=("write for example `--set train.learning_rate=1e-4`",),
    )


def _translate(
    source: Source, errors: Sequence[ErrorDetails], later: Mapping[KeyPath, Diagnostic]
) -> Iterator[Diagnostic]:
    unknown = {_path(source, e): e for e in errors if e["type"] == "extra_forbidden"}
    mistaken = {(*path[:-1], _nearest_key(path)) for path in unknown}
    choices: dict[KeyPath, list[ErrorDetails]] = {}
    later_tables = {path[:1] for path in later if path[0] == "method"}
    for error in errors:
        path = _path(source, error)
        if path in later or path[:1] in later_tables:
            continue  # said already, in better words
        if error["type"] == "too_short" and error["input"]:
            continue  # pydantic counts only the entries that are right
        if error["type"] == "extra_forbidden":
            yield _unknown_key(source, path)
        elif error["type"] == "missing":
            if path not in mistaken:
                yield _missing(source, path)
        else:
            choices.setdefault(path, []).append(error)
    for path, group in choices.items():
        yield _wrong_value(source, path, group)


def _path(source: Source, error: ErrorDetails) -> KeyPath:
    """Returns the error's location in the file; pydantic adds the names of union members, which are no keys."""
    path: KeyPath = ()
    here: Any = source.data
    for part in error["loc"]:
        if isinstance(here, Mapping):
            known = part in here
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            known, here = True, here[part]
        else:
            break
        path = (*path, part)
        if not known:
            break
    return path


def table_at(path: KeyPath) -> type[BaseModel] | None:
    """Returns the class that mirrors the table at `path`, or None where keys are free."""
    table: type[BaseModel] | None = Recipe
    for part in path:
        if isinstance(part, int):
            continue
        field = table.model_fields.get(part) if table else None
        table = _table_in(field.annotation) if field else None
    return table


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _table_in(argument)
        if found is not None:
            return found
    return None


def _nearest_key(path: KeyPath) -> str | None:
    table = table_at(path[:-1])
    return nearest(str(path[-1]), table.model_fields, _NEAR) if table else None


def _unknown_key(source: Source, path: KeyPath) -> Diagnostic:
    table = table_at(path[:-1])
    fields = list(table.model_fields) if table else []
    name = str(path[-1])
    home = _home_of(name)
    where = _where(path[:-1])
    if home is not None and home != where and nearest(name, fields, 0.8) is None:
        hints: tuple[str, ...] = (f"`{name}` belongs in {home}",)
    else:
        hints = did_you_mean(name, fields, limit=20)
    return Diagnostic(
        code="FTC101",
        severity="error",
        message=f"unknown key `{name}` in {where}",
        span=source.key(*path),
        hints=hints,
    )


def _home_of(name: str) -> str | None:
    homes = [
        f"`[{t}]`" for t, f in Recipe.model_fields.items() if (c := _table_in(f.annotation)) and name in c.model_fields
    ]
    return homes[0] if len(homes) == 1 else None


def _where(path: KeyPath) -> str:
    names = [str(p) for p in path if isinstance(p, str)]
    if not names:
        return "the recipe"
    return f"`[[{'.'.join(names)}]]`" if isinstance(path[-1], int) else f"`[{'.'.join(names)}]`"


def _missing(source: Source, path: KeyPath) -> Diagnostic:
    name = str(path[-1])
    is_table = table_at(path) is not None
    shown = _where((*path, 0)) if path[:2] == ("data", "train") and len(path) == 2 else f"`[{name}]`"
    what = f"table {shown} is missing" if is_table else f"key `{name}` is missing in {_where(path[:-1])}"
    field = table_at(path[:-1])
    description = field.model_fields[name].description if field else None
    return Diagnostic(
        code="FTC103",
        severity="error",
        message=what,
        span=source.key(*path[:-1]),
        notes=(f"{name}: {description}",) if description else (),
        hints=(f"add {shown if is_table else f'`{name} = ...`'}",),
    )


def _wrong_value(source: Source, path: KeyPath, errors: Sequence[ErrorDetails]) -> Diagnostic:
    literals = [e for e in errors if e["type"] == "literal_error"]
    value = errors[0]["input"]
    if literals and isinstance(value, str):
        return _not_a_choice(source, path, value, literals)
    if all(e["type"] in _TYPE_WORDS or e["type"] == "literal_error" for e in errors):
        return _wrong_type(source, path, errors)
    best = next(e for e in errors if e["type"] not in _TYPE_WORDS and e["type"] != "literal_error")
    return Diagnostic(
        code="FTC107" if best["type"] == "string_pattern_mismatch" else "FTC104",
        severity="error",
        message=f"`{path[-1]}` is {_shown(value)}; {_plain(best)}",
        span=source.value(*path),
        hints=(_range_hint(best),),
    )


def _not_a_choice(source: Source, path: KeyPath, value: str, errors: Sequence[ErrorDetails]) -> Diagnostic:
    words = [
        w.strip("' ")
        for e in errors
        for w in str(e.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(",")
    ]
    return Diagnostic(
        code="FTC105",
        severity="error",
        message=f"`{path[-1]}` cannot be {_shown(value)}",
        span=source.value(*path),
        notes=(f"it is one of {', '.join(words)}",),
        hints=did_you_mean(value, words),
    )


def _wrong_type(source: Source, path: KeyPath, errors: Sequence[ErrorDetails]) -> Diagnostic:
    words = list(dict.fromkeys(_TYPE_WORDS.get(e["type"], str(e.get("ctx", {}).get("expected", ""))) for e in errors))
    expected = " or ".join(w for w in words if w)
    return Diagnostic(
        code="FTC102",
        severity="error",
        message=f"`{path[-1]}` must be {expected}, not {_kind(errors[0]['input'])}",
        span=source.value(*path),
        hints=(f"write {expected}" + (" without quotes" if isinstance(errors[0]["input"], str) else ""),),
    )


def _plain(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return "a name has 1 to 64 of a-z 0-9 . _ - and starts with a letter or a digit"
    return error["msg"].replace("Input should", "it must").replace("Tuple should", "it must").replace("Value", "it")


def _range_hint(error: ErrorDetails) -> str:
    if error["type"] == "string_pattern_mismatch":
        return 'write for example `name = "my-first-run"`'
    return "write a value in that range"


def _kind(value: Any) -> str:
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f"the string {_shown(value)}"
        case int() | float():
            return f"`{value}`"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else '"' + value.encode("unicode_escape").decode() + '"'
    return f"`{text[:80]}{'...' if len(text) > 80 else ''}`"
