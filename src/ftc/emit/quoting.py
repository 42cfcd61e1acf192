"""The only ways in which a value reaches Python, shell, Markdown, YAML: each through its own quoting."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any


def python_literal(value: Any, indent: int = 0) -> str:
    """Returns Python source that evaluates to `value`, laid out as ruff format would; containers one entry a line."""
    match value:
        case str():
            return _python_string(value)
        case None | bool() | int():
            return repr(value)
        case float():
            return _python_float(value)
        case Mapping():
            items = [f"{_python_string(str(k))}: {python_literal(v, indent + 4)}" for k, v in value.items()]
            return _bracketed("{", items, "}", indent)
        case list() | tuple():
            return _bracketed("[", [python_literal(v, indent + 4) for v in value], "]", indent)
        case _:
            raise TypeError(f"no Python literal for {type(value).__name__}")


def _bracketed(opening: str, items: list[str], closing: str, indent: int) -> str:
    if not items:
        return opening + closing
    pad = " " * (indent + 4)
    return opening + "\n" + "".join(f"{pad}{item},\n" for item in items) + " " * indent + closing


def _python_string(text: str) -> str:
    """Returns a string literal in double quotes, or single where that needs fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    body = repr(text + "'\"")[1:-1]  # both quotes force repr to escape single ones only
    body = body[: -len("\\'\"")].replace("\\'", "'")
    return quote + body.replace(quote, "\\" + quote) + quote


def _python_float(value: float) -> str:
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


def shell_word(value: object) -> str:
    """Returns one shell word."""
    return shlex.quote(str(value))


def markdown_text(text: str) -> str:
    """Returns text in which Markdown and HTML see no markup."""
    plain = re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([-+=]|\d+[.)])", r"\\\1", plain)


def to_json(value: Any) -> str:
    """Returns JSON with a final newline; the order of keys is the order of the value."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def to_yaml(value: Mapping[str, Any]) -> str:
    """Returns block YAML of nested mappings; scalars are written as JSON, which YAML reads as the same values."""
    return "".join(_yaml_lines(value, 0))


def _yaml_lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield f"{'  ' * depth}{key}:\n"
            yield from _yaml_lines(inner, depth + 1)
        else:
            yield f"{'  ' * depth}{key}: {json.dumps(inner)}\n"
