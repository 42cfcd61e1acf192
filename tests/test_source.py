"""Positions: in any TOML document, every key and value is found where it stands. The documents are drawn at random."""

import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftc.diagnostic import Diagnostic
from ftc.source import Source, parse_source

Path = tuple[str | int, ...]
FEW = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# --- Documents ---------------------------------------------------------------------------------------------------

PLAIN = st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))
BARE = st.text("abcxyzABC019_-", min_size=1, max_size=6)
NAMES = st.one_of(
    BARE, st.sampled_from(["a.b", "", " ", "#", "=", "ключ", "键", "🔥", "a b", "'", '"', "\\", "[x]", "\t"])
)
WORDS = st.text(PLAIN, max_size=12)
NUMBERS = ["0", "-17", "+1_000", "0xDEAD_beef", "0o755", "0b1101", "3.14", "-1e-7", "6.26E+3", "inf", "-nan"]
TIMES = ["1979-05-27", "07:32:00.999", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00-07:00"]
SCALARS = st.sampled_from([*NUMBERS, *TIMES, "true", "false"])
GAPS = st.sampled_from(["", " ", "\t", "  "])
BREAKS = st.sampled_from(["", " ", "\n", "\n\n  ", " # , ] } = [[x]] \"'\n", '\n# a\n\t# b """\n'])


class Piece(NamedTuple):
    """Text with the keys and values in it: each with its path below here, and its offset in the text."""

    text: str
    keys: tuple[tuple[Path, int], ...] = ()
    values: tuple[tuple[Path, int], ...] = ()


def shifted(piece: Piece, offset: int, below: Path) -> Piece:
    keys = tuple(((*below, *path), at + offset) for path, at in piece.keys)
    return Piece(piece.text, keys, tuple(((*below, *path), at + offset) for path, at in piece.values))


def joined(parts: list[Piece | str]) -> Piece:
    whole = Piece("")
    for part in parts:
        piece = shifted(part, len(whole.text), ()) if isinstance(part, Piece) else Piece(part)
        whole = Piece(whole.text + piece.text, whole.keys + piece.keys, whole.values + piece.values)
    return whole


def basic(text: str) -> str:
    """Returns the text as the inside of a basic string."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return "".join(escapes.get(ch, ch) for ch in text)


@st.composite
def key_texts(draw: st.DrawFn, name: str) -> str:
    quoted = ['"' + basic(name) + '"', '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0xD800 else c for c in name) + '"']
    literal = [f"'{name}'"] if "'" not in name else []
    bare = [name] if name and all(ch.isascii() and (ch.isalnum() or ch in "_-") for ch in name) else []
    return draw(st.sampled_from([*bare, *bare, *quoted, *literal]))


@st.composite
def strings(draw: st.DrawFn) -> str:
    text = draw(WORDS)
    forms = ['"' + basic(text) + '"', '"""' + basic(text) + '\n x = 1 # ]\\\n   more ""\\""""', "'''[a]\nb = ''c'''''"]
    forms += [f"'{text}'"] if "'" not in text else []
    return draw(st.sampled_from(forms))


def leaf(text: str) -> Piece:
    return Piece(text, (), (((), 0),))


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> Piece:
    kind = draw(st.sampled_from(["scalar", "string", "string", *(["array", "table"] if depth < 3 else [])]))
    if kind in ("scalar", "string"):
        return leaf(draw(SCALARS if kind == "scalar" else strings()))
    piece = draw(arrays(depth) if kind == "array" else inline_tables(depth))
    return piece._replace(values=(((), 0), *piece.values))


@st.composite
def arrays(draw: st.DrawFn, depth: int) -> Piece:
    items = draw(st.lists(values(depth + 1), max_size=3))
    parts: list[Piece | str] = ["["]
    for index, item in enumerate(items):
        parts += [draw(BREAKS), shifted(item, 0, (index,)), draw(BREAKS)]
        parts.append("," if index < len(items) - 1 or draw(st.booleans()) else "")
    return joined([*parts, draw(BREAKS), "]"])


@st.composite
def inline_tables(draw: st.DrawFn, depth: int) -> Piece:
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    parts: list[Piece | str] = ["{", draw(GAPS)]
    for index, name in enumerate(names):
        parts += [", " if index else "", draw(pairs((name,), depth + 1)), draw(GAPS)]
    return joined([*parts, "}"])


@st.composite
def dotted(draw: st.DrawFn, path: tuple[str, ...]) -> Piece:
    """Draws `a . "b"`; every part is a key."""
    parts: list[Piece | str] = []
    for end in range(1, len(path) + 1):
        text = draw(key_texts(path[end - 1]))
        parts += ["." if end > 1 else "", draw(GAPS), Piece(text, ((path[:end], 0),)), draw(GAPS)]
    return joined(parts)


@st.composite
def pairs(draw: st.DrawFn, path: tuple[str, ...], depth: int = 0) -> Piece:
    parts: list[Piece | str] = [draw(dotted(path)), "=", draw(GAPS), shifted(draw(values(depth)), 0, path)]
    return joined(parts)


@st.composite
def bodies(draw: st.DrawFn, start: int = 0) -> Piece:
    """Draws pairs, some with dotted keys; `start` keeps their names apart from those of other tables."""
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    parts: list[Piece | str] = []
    for index, name in enumerate(names):
        path = (f"d{start}", f"e{index}", name) if draw(st.integers(0, 3)) == 0 else (f"k{start}-{index}{name}",)
        comment = draw(st.sampled_from(["", " # = [no] {key = 1}", "\t#"]))
        parts += [draw(GAPS), draw(pairs(path)), comment, "\n", draw(st.sampled_from(["", "\n", "# x = 1\n"]))]
    return joined(parts)


@st.composite
def documents(draw: st.DrawFn) -> Piece:
    """Draws a document: pairs, then tables, arrays of tables and tables inside their entries."""
    parts: list[Piece | str] = [draw(bodies())]
    counts: dict[str, int] = {}
    for number in range(1, draw(st.integers(0, 7)) + 1):
        kind = draw(st.sampled_from(["array", "inside", "inside", "table", "deep"]))
        array = draw(st.sampled_from(["rows0", "rows0", "rows1"]))
        if kind == "array" or (kind == "inside" and array in counts):
            index = counts[array] = counts.get(array, -1) + (kind == "array")
            parts += draw(rows(array, index, number if kind == "inside" else None))
        else:
            path = ("deep", f"t{number}") if kind == "deep" else (f"t{number}",)
            parts += ["[", draw(dotted(path)), "]\n", shifted(draw(bodies(number)), 0, path)]
    return joined(parts)


@st.composite
def rows(draw: st.DrawFn, array: str, index: int, inside: int | None) -> list[Piece | str]:
    """Draws an entry of an array of tables, or a table inside its newest entry."""
    text = draw(key_texts(array))
    if inside is None:
        header = Piece(text, (((array,), 0), ((array, index), 0)))
        return ["[[", draw(GAPS), header, draw(GAPS), "]]\n", shifted(draw(bodies()), 0, (array, index))]
    name = draw(key_texts(f"in{inside}"))
    path = (array, index, f"in{inside}")
    header = joined([Piece(text, (((array,), 0),)), ".", Piece(name, ((path, 0),))])
    return ["[", header, "]\n", shifted(draw(bodies(100 + inside)), 0, path)]


# --- What is held against them -----------------------------------------------------------------------------------


def read(text: str) -> Source:
    source = parse_source(text.encode("utf-8"), "a.toml")
    assert not isinstance(source, Diagnostic), source
    return source


def key_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yields the path of every key in what tomllib has read."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from key_paths(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from key_paths(inner, (*path, index))


def key_at(text: str) -> str:
    """Returns the key that `text` starts with, bare or quoted."""
    if text[0] in "\"'":
        end = 1
        while text[end] != text[0]:
            end += 2 if text[0] == '"' and text[end] == "\\" else 1
        return str(tomllib.loads("k = " + text[: end + 1])["k"])
    return text[: next((i for i, ch in enumerate(text) if not (ch.isalnum() or ch in "_-")), len(text))]


def place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


@given(documents(), st.booleans())
@FEW
def test_every_key_is_found_where_it_stands(document: Piece, windows: bool) -> None:
    text = document.text.replace("\n", "\r\n") if windows else document.text
    source = read(text)
    assert repr(dict(source.data)) == repr(tomllib.loads(text))
    written: dict[Path, list[tuple[int, int]]] = {}
    for path, offset in document.keys:
        written.setdefault(path, []).append(place(document.text, offset))
    for path in key_paths(source.data):
        span = source.key(*path)
        here = text.split("\n")[span.line - 1][span.column - 1 :]
        assert key_at(here) == path[-1], path
        assert (span.line, span.column) in written[path], path
        assert span.text == text.split("\n")[span.line - 1].rstrip("\r")
        assert tomllib.loads(f"{here[: span.length]} = 1") == {path[-1]: 1}


@given(documents())
@FEW
def test_every_value_is_found_where_it_stands(document: Piece) -> None:
    source = read(document.text)
    for path, offset in document.values:
        span = source.value(*path)
        assert (span.line, span.column) == place(document.text, offset), path


@given(documents())
@FEW
def test_an_entry_of_an_array_is_found_where_it_stands(document: Piece) -> None:
    source = read(document.text)
    starts = {path: place(document.text, offset) for path, offset in (*document.values, *document.keys)}
    for path, start in starts.items():
        if path and isinstance(path[-1], int):
            span = source.key(*path)
            assert (span.line, span.column) == start, path


@given(documents(), BARE)
@FEW
def test_what_is_not_written_is_found_at_what_is_above_it(document: Piece, name: str) -> None:
    source = read(document.text)
    for path in key_paths(source.data):
        assert source.key(*path, f"no-{name}", 3, "x") == source.key(*path)
    assert source.key(f"no-{name}")[1:3] == (1, 1)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")))
@FEW
def test_bytes_that_are_no_toml_are_one_diagnostic(raw: bytes) -> None:
    source = parse_source(raw, "a.toml")
    if isinstance(source, Diagnostic):
        assert source.code in ("FTC001", "FTC002")
        assert source.span is not None and source.span.line >= 1 and source.span.column >= 1
        assert source.hints


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a = 1\nb = \n", 2, 5),
        ("a = 1\nb = [1,\n", 2, 8),
        ('a = "x\n', 1, 7),
        ("a = 1\na = 2\n", 2, 6),
        ("[t]\n[t]\n", 2, 3),
        ("a = 1\r\nb == 2\r\n", 2, 4),
        ("ключ = 1\n", 1, 1),
    ],
)
def test_a_fault_of_syntax_is_named_near_where_it_is(text: str, line: int, column: int) -> None:
    fault = parse_source(text.encode(), "a.toml")
    assert isinstance(fault, Diagnostic) and fault.span is not None
    assert fault.span.line == line
    assert abs(fault.span.column - column) <= 2
    assert fault.span.text == text.split("\n")[line - 1].rstrip("\r")
