"""One Markdown case per diagnostic: a recipe, what stands beside it, and the text that a user sees.

Blocks: `before` (something done first), `toml` (the recipe), `args` (more words on the command line), `file=NAME`
(a file beside it), `text` (the expected rendering). `pytest tests/test_diagnostics.py --update` rewrites the last.
"""

import itertools
import json
import re
import shlex
import struct
import tomllib
from pathlib import Path
from typing import Any

import pytest

import ftc
from ftc.cli import main
from ftc.codes import load_codes
from ftc.compile import Request, run_pipeline
from ftc.diagnostic import Report, make_report
from ftc.show import render_report
from ftc.show.segments import plain

CASES = sorted((Path(__file__).parent / "diagnostics").glob("*.md"))
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADER = re.compile(r"<header (.*)>\n", re.DOTALL)
ROOT = Path(ftc.__file__).parent
NOT_ALIKE = ("FTC001", "FTC002", "FTC606")  # no TOML, not UTF-8, cut short in the registry


def blocks(case: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(case.read_text(encoding="utf-8"))


def set_up(case: Path, folder: Path) -> list[str]:
    """Writes the case's files into `folder`; returns the words after the recipe's name."""
    found = dict(blocks(case))
    before = found.get("before", "").strip()
    for kind, text in blocks(case):
        if kind.startswith("file="):
            path = folder / kind.removeprefix("file=")
            path.parent.mkdir(parents=True, exist_ok=True)
            header = HEADER.fullmatch(text)
            path.write_bytes(safetensors(header[1]) if header else text.encode())
    if before == "latin-1":
        (folder / "recipe.toml").write_bytes(found["toml"].replace("\\xe9", "é").encode("latin-1"))
    elif before != "missing":
        padding = "#" * (3 * 2**20) if before == "3 MiB" else ""
        (folder / "recipe.toml").write_text(found["toml"] + padding, encoding="utf-8")
    return shlex.split(found.get("args", ""))


def safetensors(shapes: str) -> bytes:
    """Returns a file of which only the header is there, which is all that a compile reads."""
    tensors = {
        name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in json.loads(shapes).items()
    }
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header


def report_of(words: list[str]) -> Report:
    """Runs the pipeline with the words as the command line would."""
    given = {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}
    request = Request(
        recipe=Path("recipe.toml"),
        gpus=given.get("--gpus"),
        site=Path(given["--site"]) if "--site" in given else None,
        overrides=tuple(value for name, value in itertools.pairwise(words) if name == "--set"),
        locked="--locked" in words,
    )
    return run_pipeline(request).report


def written(before: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Does what the case says to a bundle, compiles again, and returns what is printed."""
    compile_once(words)
    if before == "edit train.py":
        Path("out/case/train.py").write_text("# mine\n")
    elif before == "foreign folder":
        Path("elsewhere").mkdir()
        Path("elsewhere/thesis.tex").write_text("my thesis")
        words = [*words, "-o", "elsewhere"]
    elif before == "check":
        words = [*words, "--check", "--set", "train.seed=43"]
    elif before == "file as parent":
        Path("file").write_text("")
        words = [*words, "-o", "file/bundle"]
    capsys.readouterr()
    compile_once(words)
    return capsys.readouterr().err


def compile_once(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compile", "recipe.toml", *words])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_diagnostic_reads_as_the_case_says(
    case: Path, update: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = set_up(case, tmp_path)
    before = dict(blocks(case)).get("before", "").strip()
    if case.stem.startswith("FTC7"):
        shown = only(written(before, words, capsys), case.stem)
    else:
        mine = [d for d in report_of(words).diagnostics if d.code == case.stem]
        assert mine, f"{case.stem} is not raised"
        shown = plain(render_report(make_report(mine))[:-1]).strip() + "\n"
    assert_well_formed(shown, case.stem)
    if update:
        text = case.read_text(encoding="utf-8")
        case.write_text(re.sub(r"(?ms)^```text\n.*?^```$", lambda _: f"```text\n{shown}```", text), encoding="utf-8")
    assert shown == dict(blocks(case))["text"]


def assert_well_formed(shown: str, code: str) -> None:
    """Each diagnostic has the registry's severity, a message without a final period, and something to type."""
    for diagnostic in shown.strip().split("\n\n"):
        first, *rest = diagnostic.split("\n")
        assert first.startswith(f"{load_codes()[code].severity}[{code}]: ")
        assert not first.endswith("."), "a message is a phrase"
        assert any(line.startswith("hint: ") for line in rest), "every diagnostic says what to type"


def only(printed: str, code: str) -> str:
    """Returns the paragraph about one code."""
    return next(part for part in printed.split("\n\n") if f"[{code}]" in part).strip() + "\n"


def codes_in_source() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py"))
    return set(re.findall(r'"(FTC\d{3})"', text))


def test_every_code_has_an_entry_and_a_case() -> None:
    assert codes_in_source() == set(load_codes()) == {case.stem for case in CASES}
    assert len(CASES) >= 40


def test_every_code_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for code, entry in load_codes().items():
        with pytest.raises(SystemExit) as stop:
            main(["explain", code.lower()])
        assert not stop.value.code
        said = capsys.readouterr().out
        assert code in said and entry.summary in said and entry.fix in said


def test_an_unknown_code_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["explain", "FTC999"])
    assert stop.value.code == 2
    assert "FTC" in capsys.readouterr().err


def test_the_registry_is_whole_and_in_order() -> None:
    registry = tomllib.loads((ROOT / "codes.toml").read_text(encoding="utf-8"))
    assert list(registry) == sorted(registry)
    for code, entry in registry.items():
        assert list(entry) == ["severity", "summary", "why", "example", "fix"], code
        assert entry["severity"] in ("error", "warning", "advice")
        assert not entry["summary"].endswith("."), f"{code}: a summary is a phrase"
        assert 2 <= len(re.findall(r"\.(?=\s|$)", entry["why"])) <= 4, f"{code}: two to four sentences say why"
        assert entry["fix"].endswith("."), f"{code}: the fix is a sentence"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_case_is_named_after_the_registry(case: Path) -> None:
    heading, _, sentence, *_ = case.read_text(encoding="utf-8").split("\n")
    entry = load_codes()[case.stem]
    assert heading == f"# {case.stem}: {entry.summary}"
    assert " ".join(entry.why.split()).startswith(sentence)


@pytest.mark.parametrize("case", [c for c in CASES if c.stem not in NOT_ALIKE], ids=lambda case: case.stem)
def test_the_example_is_part_of_the_case(case: Path) -> None:
    example = tomllib.loads(load_codes()[case.stem].example)
    files = [text for kind, text in blocks(case) if kind == "toml" or kind.endswith(".toml")]
    assert any(is_within(example, tomllib.loads(text)) for text in files), "the example raises what the case shows"


def is_within(part: Any, whole: Any) -> bool:
    """Returns whether all of `part` stands in `whole`: keys of a table, entries of a list in their order."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_within, part, whole))
    return bool(part == whole)


def test_every_example_is_toml_but_for_the_code_that_says_so() -> None:
    for code, entry in load_codes().items():
        if code != "FTC001":
            tomllib.loads(entry.example)
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(load_codes()["FTC001"].example)
