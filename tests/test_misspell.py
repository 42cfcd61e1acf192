"""Every key of every shipped recipe, misspelt where it stands: the diagnostic is on that spot and names the key."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftc.cli import check

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
# The keys that no shipped recipe has.
EVERYTHING = """\
name = "everything"
description = "Each key that the shipped recipes leave out"  # a comment with revision = "x"
stack = "2026.11"
model = { base = "tiny/model", dtype = "auto", attention = "sdpa", chat_template = "auto", \
new_tokens = ["<|a|>"], trust_remote_code = false }
adapter.kind = "lora"
adapter.r = 4
adapter.dropout = 0.0
adapter.extra.init_lora_weights = "gaussian"
"quantization" = { 'bits' = 4, "kind" = "nf4", double = true }

[method]
    kind = "sft"
[[data.train]]
source = "tiny/data/chat.jsonl"
format = "chat"
columns = { messages = "messages", role = "role", content = "content" }
roles.user = "user"
roles."assistant" = "assistant"
weight = 1.5
[[data.train]]
source = "tiny/data/sharegpt.jsonl"
format = "sharegpt"
[[ data . eval ]]
source = "tiny/data/chat_eval.jsonl"
format = "chat"
[train]
max_steps = 10
max_grad_norm = 1.0
precision = "bf16"
scheduler = "cosine_with_min_lr"
optimizer = "adamw_torch"
extra = { lr_scheduler_kwargs = { min_lr = 0.0 }, adam_beta2 = 0.99 }
[plan]
strategy = "single"
micro_batch = 4
gradient_checkpointing = true
offload = "none"
kernels = "none"
objective = "time"
[checkpoint]
resume = true
keep = 2
[track]
to = ["tensorboard", "wandb"]
project = "kites"
[output]
merge = false
"""
TEXTS = {p.stem: p.read_text(encoding="utf-8") for p in sorted(RECIPES.glob("*.toml")) if p.stem != "targets"}
TEXTS["everything"] = EVERYTHING

_VALUE = re.compile(r"""(?<=[=\[,])\s*(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*')(?![ \t]*=)|#[^\n]*""")
_HEADER = re.compile(r"^\[{1,2}([\w. -]+)\]{1,2}", re.MULTILINE)
_PART = re.compile(r"[\w-]+")
_KEYS = re.compile(r"(?:[\w-]+|\"[\w-]+\"|'[\w-]+')(?:\.(?:[\w-]+|\"[\w-]+\"))*(?=[ \t]*=)")


class Key(NamedTuple):
    """A key as it is written: in which recipe, at which offset of its text; quotes stand before that."""

    recipe: str
    start: int
    name: str


def find_keys(recipe: str) -> Iterator[Key]:
    """Yields the keys of a recipe's text, those of headers and inline tables too; not by ftc's own scanner."""
    text = _VALUE.sub(lambda m: " " * len(m[0]), TEXTS[recipe])
    spans = [m.span(1) for m in _HEADER.finditer(text)] + [m.span() for m in _KEYS.finditer(text)]
    for start, end in spans:
        yield from (Key(recipe, m.start(), m[0]) for m in _PART.finditer(text, start, end))


KEYS = sorted(key for recipe in TEXTS for key in find_keys(recipe))
WORDS = {key.name for key in KEYS}


def names_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names_in(inner)


def place(key: Key) -> tuple[int, int]:
    """Returns line and column of the key, of its quote where it has one."""
    before = TEXTS[key.recipe][: key.start]
    quote = before[-1:] in ('"', "'")
    return before.count("\n") + 1, key.start - before.rfind("\n") - quote


def name_of(key: Key) -> str:
    return f"{key.recipe}-{place(key)[0]}-{key.name}"


def misspellings(name: str) -> list[str]:
    """Returns the name with a letter dropped, one doubled, two swapped; none of them is itself a key."""
    last = len(name) - 1
    middle = len(name) // 2
    dropped = [name[:i] + name[i + 1 :] for i in (1, middle)] if last else []
    doubled = [name[: i + 1] + name[i:] for i in (0, middle)]
    swapped = [name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in (0, last - 1)] if last else []
    return [word for word in dict.fromkeys((*dropped, *doubled, *swapped)) if word not in WORDS]


def run_check(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Runs `ftc check RECIPE --json`; without parsing the words, which takes longer than the check."""
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    code = check((folder / "recipe.toml",), as_json=True)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


@pytest.mark.parametrize("recipe", TEXTS)
def test_the_recipe_is_right_as_it_is(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny").symlink_to(RECIPES / "tiny")
    code, report = run_check(tmp_path, TEXTS[recipe], capsys)
    assert code == 0, report["diagnostics"]


@pytest.mark.parametrize("recipe", TEXTS)
def test_no_key_is_overlooked(recipe: str) -> None:
    written = Counter(key.name for key in KEYS if key.recipe == recipe)
    needed = Counter(names_in(tomllib.loads(TEXTS[recipe])))
    assert set(written) == set(needed)
    assert needed <= written  # a table with a header of its own and of its children is written more than once


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
