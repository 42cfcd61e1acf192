"""A stack: a tested set of library versions, and the arguments that each of its classes takes."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from ftc.facts.files import DATA, read_data


class ApiField(NamedTuple):
    """One argument of a pinned class: the TOML types that it `accepts`, the words where it has `choices`."""

    name: str
    type: str
    accepts: tuple[str, ...]
    choices: tuple[str, ...]


class Renamed(NamedTuple):
    """What an old argument became: the name or recipe key to use, or None where nothing replaces it."""

    use: str | None
    why: str


class ApiClass(NamedTuple):
    """A class or function that train.py fills: its arguments, the old names, and those that ftc sets itself."""

    name: str
    fields: Mapping[str, ApiField]
    renamed: Mapping[str, Renamed]
    owned: Mapping[str, str | None]


class StackFacts(NamedTuple):
    """One stack, read from its folder under `facts/data/stacks`."""

    name: str
    versions: Mapping[str, str]
    optimizers: tuple[str, ...]
    schedulers: tuple[str, ...]
    scheduler_arguments: Mapping[str, tuple[str, ...]]
    attention: tuple[str, ...]
    template_families: tuple[str, ...]
    training_families: tuple[str, ...]  # trl has a twin of it with marks
    marked_families: tuple[str, ...]  # has marks itself
    accelerate: Mapping[str, tuple[str, ...]]
    deepspeed: Mapping[str, tuple[str, ...]]


def stack_names() -> list[str]:
    """Returns the names of all stacks, the oldest first."""
    return sorted(folder.name for folder in (DATA / "stacks").iterdir() if folder.is_dir())


@cache
def load_stack(name: str) -> StackFacts | None:
    """Returns the stack of that name, or None."""
    if name not in stack_names():
        return None
    api = _read_api(name)
    return StackFacts(
        name=name,
        versions=api["versions"],
        optimizers=tuple(api["optimizers"]),
        schedulers=tuple(api["schedulers"]),
        scheduler_arguments={name: tuple(names) for name, names in api["scheduler_arguments"].items()},
        attention=tuple(api["attention"]),
        template_families=tuple(api["chat_templates"]["families"]),
        training_families=tuple(api["chat_templates"]["training"]),
        marked_families=tuple(api["chat_templates"]["marked"]),
        accelerate={part: tuple(keys) for part, keys in api["accelerate"].items()},
        deepspeed={part: tuple(keys) for part, keys in api["deepspeed"].items()},
    )


@cache
def _read_api(stack: str) -> Mapping[str, Any]:
    api: dict[str, Any] = json.loads(read_data(f"stacks/{stack}/api.json"))
    return api


@cache
def load_class(stack: str, name: str) -> ApiClass:
    """Returns one class of a stack, or `from_pretrained`; read only where a recipe passes something through."""
    api = _read_api(stack)
    renamed = json.loads(read_data(f"stacks/{stack}/renamed.json"))
    owned = json.loads(read_data(f"stacks/{stack}/owned.json"))
    loader = api["functions"]["AutoModelForCausalLM.from_pretrained"]
    fields = loader["fields"] if name == "from_pretrained" else api["classes"][name]["fields"]
    return _read_class(name, fields, renamed.get(name, {}), owned.get(name, {}))


def _read_class(
    name: str, fields: Mapping[str, Any], renamed: Mapping[str, Any], owned: Mapping[str, str | None]
) -> ApiClass:
    return ApiClass(
        name=name,
        fields={n: _read_field(n, f) for n, f in fields.items()},
        renamed={n: Renamed(use=r.get("use"), why=r.get("why", "")) for n, r in renamed.items()},
        owned=owned,
    )


def _read_field(name: str, field: Mapping[str, Any]) -> ApiField:
    choices = tuple(str(choice) for choice in field.get("choices", ()))
    return ApiField(name=name, type=field["type"], accepts=tuple(field["accepts"]), choices=choices)
