"""Recipe text is hostile until shown otherwise: lengths, control characters, secrets, names that reach a shell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftc.diagnostic import Diagnostic
from ftc.facts import load_words
from ftc.resolve import is_local
from ftc.rules.context import Context, is_commit
from ftc.source import KeyPath, Source

_MAX_TEXT = 2048
_MAX_PROMPT = 65536
_LONG_KEYS = frozenset(("system_prompt",))
_MULTILINE_KEYS = frozenset(("system_prompt", "description"))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_MODULE = re.compile(r"[A-Za-z_][\w.*-]{0,127}")
_PLAIN = re.compile(r"[\w][\w .:@/+=,()-]{0,127}")
_SPLIT = re.compile(r"[A-Za-z0-9][\w.\[\]:%+-]{0,127}")


def check_text(source: Source) -> Iterator[Diagnostic]:
    """Yields FTC604 FTC605 FTC606 for every string of the file, before any of them is used."""
    secret = re.compile("|".join(load_words()["secrets"]["patterns"]))
    for path, text in _texts(source.data, ()):
        name = next((str(p) for p in reversed(path) if isinstance(p, str)), "")
        limit = _MAX_PROMPT if name in _LONG_KEYS else _MAX_TEXT
        allowed = "\n\t" if name in _MULTILINE_KEYS else ""
        control = _CONTROL.search(text) or next((m for m in re.finditer(r"[\n\t]", text) if m[0] not in allowed), None)
        span = source.value(*path) if path in source.values else source.key(*path)
        shown = name[:80].encode("unicode_escape").decode()
        if len(text) > limit:
            yield _fault("FTC606", f"`{shown}` has {len(text)} characters, it may have {limit}", span, "shorten it")
        elif control is not None:
            code = f"U+{ord(control[0]):04X}"
            yield _fault("FTC605", f"`{shown}` holds the control character {code}", span, "remove it")
        elif secret.search(text):
            hint = "remove it; put secrets into the environment, as HF_TOKEN or WANDB_API_KEY"
            yield _fault("FTC604", f"`{shown}` looks like a secret", span, hint)


def check_numbers(source: Source) -> Iterator[Diagnostic]:
    """Yields FTC609 for every whole number that 64 bits do not hold, as TOML asks for."""
    for path, number in _numbers(source.data, ()):
        if not -(2**63) <= number < 2**63:
            span = source.value(*path) if path in source.values else source.key(*path)
            yield _fault("FTC609", "a whole number has at most 64 bits", span, "write a smaller number")


def _numbers(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, (*path, index))


def _fault(code: str, message: str, span: Any, hint: str) -> Diagnostic:
    return Diagnostic(code=code, severity="error", message=message, span=span, hints=(hint,))


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*path, key), key
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def remote_code_unpinned(c: Context) -> Iterator[Diagnostic]:
    """FTC602"""
    if c.settings.trust_remote_code and not is_commit(c.settings.revision):
        yield c.error(
            "FTC602",
            "`trust_remote_code` runs whatever the repository holds on that day",
            ("model", "trust_remote_code"),
            "pin `[model] revision` to a commit of 40 hex digits that you have read, or remove the key",
        )


def remote_code_trusted(c: Context) -> Iterator[Diagnostic]:
    """FTC610"""
    if c.settings.trust_remote_code and is_commit(c.settings.revision):
        yield c.warning(
            "FTC610",
            f"code from {c.settings.base} at {c.settings.revision} will run with your rights",
            ("model", "trust_remote_code"),
            "read the Python files of that commit before you launch",
        )


def unpinned_when_locked(c: Context) -> Iterator[Diagnostic]:
    """FTC603"""
    if not c.locked:
        return
    if c.facts.local_model is None and not is_commit(c.settings.revision):
        yield c.error(
            "FTC603",
            f"--locked, and {c.settings.base} has no pinned revision",
            ("model", "base"),
            "add `[model] revision` with a commit of 40 hex digits",
        )
    for part, index, row in c.recipe.data.sources():
        if not is_local(row) and not is_commit(row.revision):
            yield c.error(
                "FTC603",
                f"--locked, and data set {row.source} has no pinned revision",
                ("data", part, index, "source"),
                "add `revision` with a commit of 40 hex digits",
            )


def strange_words(c: Context) -> Iterator[Diagnostic]:
    """FTC608"""
    for path, text, pattern, what in _words(c):
        if text is not None and not pattern.fullmatch(text):
            yield c.error(
                "FTC608",
                f"`{path[-1] if isinstance(path[-1], str) else path[-2]}` is no {what}",
                path,
                "letters, digits and . _ - only, a letter or digit first",
            )


def _words(c: Context) -> Iterator[tuple[tuple[str | int, ...], str | None, re.Pattern[str], str]]:
    recipe = c.recipe
    yield ("model", "revision"), recipe.model.revision, _REVISION, "revision of a repository"
    yield ("track", "project"), recipe.track.project if recipe.track else None, _PLAIN, "project name"
    for part, index, row in recipe.data.sources():
        yield ("data", part, index, "revision"), row.revision, _REVISION, "revision of a repository"
        yield ("data", part, index, "split"), row.split, _SPLIT, "split of a data set"
    if recipe.adapter is None:
        return
    targets = recipe.adapter.targets
    if isinstance(targets, str):
        yield ("adapter", "targets"), targets, _MODULE, "module name"
    for key, names in (("targets", targets), ("modules_to_save", recipe.adapter.modules_to_save)):
        for index, name in enumerate(names if isinstance(names, tuple) else ()):
            yield ("adapter", key, index), name, _MODULE, "module name"


RULES = (remote_code_unpinned, remote_code_trusted, unpinned_when_locked, strange_words)
