"""Every key of every shipped recipe, misspelt where it stands: the diagnostic is on that very spot and names the key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftc.cli import main

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
TEXTS = {p.stem: p.read_text(encoding="utf-8") for p in sorted(RECIPES.glob("*.toml")) if p.stem != "targets"}

_HIDDEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*')
_HEADER = re.compile(r"^\[{1,2}([\w.-]+)\]{1,2}", re.MULTILINE)
_PART = re.compile(r"[\w-]+")
_KEY = re.compile(r"([\w-]+)(?=[ \t]*=)")


class Key(NamedTuple):
    """A key as it is written: in which recipe, at which offset; `known` are the words that are right there too."""

    recipe: str
    start: int
    name: str


def find_keys(recipe: str) -> Iterator[Key]:
    """Yields the keys of a recipe's text, those of headers and inline tables too; not by ftc's own scanner."""
    text = _HIDDEN.sub(lambda m: " " * len(m[0]), TEXTS[recipe])
    for header in _HEADER.finditer(text):
        yield from (Key(recipe, m.start(), m[0]) for m in _PART.finditer(text, *header.span(1)))
    yield from (Key(recipe, m.start(), m[0]) for m in _KEY.finditer(text))


KEYS = sorted(key for recipe in TEXTS for key in find_keys(recipe))


def place(key: Key) -> tuple[int, int]:
    before = TEXTS[key.recipe][: key.start]
    return before.count("\n") + 1, key.start - before.rfind("\n")


def name_of(key: Key) -> str:
    return f"{key.recipe}-{place(key)[0]}-{key.name}"


def misspellings(name: str) -> list[str]:
    """Returns the name with a letter dropped, one doubled and two swapped: at the front, in the middle, at the end."""
    last = len(name) - 1
    spots = sorted({1, len(name) // 2, last - 1} & set(range(len(name)))) or [0]
    dropped = [name[:i] + name[i + 1 :] for i in spots] if last else []
    doubled = [name[: i + 1] + name[i:] for i in spots]
    swapped = [name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in spots if i < last]
    return [word for word in dict.fromkeys((*dropped, *doubled, *swapped)) if word and word not in known_words()]


_known: set[str] = set()


def known_words() -> set[str]:
    """Returns every key that is written in some recipe: a misspelling must be none of them."""
    if not _known:
        _known.update(key.name for key in KEYS)
    return _known


def run_check(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, dict[str, Any]]:
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(folder / "recipe.toml"), "--json"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return stop.value.code, report


@pytest.mark.parametrize("recipe", TEXTS)
def test_the_recipe_is_right_as_it_is(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").symlink_to(RECIPES / "tiny")
    code, report = run_check(tmp_path, TEXTS[recipe], capsys)
    assert code == 0, report["diagnostics"]


@pytest.mark.parametrize("key", KEYS, ids=name_of)
def test_a_misspelt_key_is_found_where_it_stands(key: Key, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").symlink_to(RECIPES / "tiny")
    text, (line, column) = TEXTS[key.recipe], place(key)
    words = misspellings(key.name)
    assert words
    for word in words:
        changed = text[: key.start] + word + text[key.start + len(key.name) :]
        code, report = run_check(tmp_path, changed, capsys)
        there = [d for d in report["diagnostics"] if (d["line"], d["column"]) == (line, column)]
        hints = [hint for d in there for hint in d["hints"] if d["severity"] == "error"]
        assert code == 1, f"`{word}` passed"
        said = [(d["code"], d["line"], d["column"], d["message"], d["hints"]) for d in report["diagnostics"]]
        assert any(f"`{key.name}`" in hint for hint in hints), f"`{word}` at {line}:{column}: {said}"
        assert all(str(d["file"]).endswith("recipe.toml") for d in there)
