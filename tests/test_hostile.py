"""Hostile text in every key of the language: refused with a diagnostic, or carried as plain text and nothing more."""

import ast
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ftc.cli import compile as compile_command
from ftc.cli import main
from ftc.emit.quoting import python_literal, shell_word

TINY = Path(__file__).resolve().parent.parent / "recipes" / "tiny"
TRAP = "PWNED"

TEXTS = {
    "double quote": 'a"b',
    "single quote": "a'b",
    "three double": '"""',
    "three single": "'''",
    "backslash": "\\",
    "backslashes and quotes": "\\\\\"\\'\\",
    "substitution": "$(touch PWNED)",
    "backticks": "`touch PWNED`",
    "variable": "${HOME}$PATH",
    "end of expansion": 'x}" $(touch PWNED) "${y',
    "semicolon": "a; touch PWNED",
    "and": "a && touch PWNED #",
    "newline": "a\ntouch PWNED",
    "crlf": "a\r\nb",
    "tab": "a\tb",
    "expression": "{{ 7*7 }}",
    "statement": "{% raw %}",
    "parent": "../../etc/passwd",
    "root": "/etc/passwd",
    "home": "~/x",
    "option": "-rf",
    "help": "--help",
    "nul": "a\0b",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "c1": "\x9b31m",
    "right to left": "a\u202ebca",
    "surrogate": "\ud800",
    "line separator": "a\u2028touch PWNED",
    "next line": "a\x85b",
    "byte order mark": "\ufeffa",
    "zero width": "a\u200bb",
    "long": "x" * 70_000,
    "python": '\'; import os; os.system("touch PWNED")#',
    "python docstring": '""" + __import__("os").system("touch PWNED") + """',
    "python f-string": '{__import__("os").system("touch PWNED")}',
    "sbatch": "#SBATCH --wrap='touch PWNED'",
    "cdata": "]]>",
    "script": "<script>alert(1)</script>",
    "image": "![x](http://example.com/x.png)",
    "table": "a | b",
    "yaml": ": - & * ! % @ ? |",
    "yaml tag": "!!python/object/apply:os.system ['touch PWNED']",
    "percent": "%s%n%(x)s",
    "emoji": "🪁👩‍👩‍👧",
    "combining": "e\u0301",
    "empty": "",
    "blank": " ",
    "word": "plain",
}

# --- Recipes with room for a text --------------------------------------------------------------------------------

CHAT: dict[str, Any] = {
    "name": "tiny",
    "model": {"base": "tiny/model"},
    "method": {"kind": "sft", "loss_on": "assistant"},
    "data": {"max_length": 256, "train": [{"source": "rows.jsonl", "format": "chat"}]},
    "train": {"max_steps": 5, "global_batch": 16},
}
LORA: dict[str, Any] = {**CHAT, "adapter": {"kind": "lora", "r": 4}}
HUB: dict[str, Any] = {
    **CHAT,
    "model": {"base": "Qwen/Qwen3-0.6B"},
    "data": {"train": [{"source": "trl-lib/Capybara", "format": "chat"}]},
}
PAIRS: dict[str, Any] = {
    **CHAT,
    "method": {"kind": "sft"},
    "data": {"max_length": 256, "train": [{"source": "rows.jsonl", "format": "prompt-completion"}]},
}
SITE: dict[str, Any] = {"slurm": {}, "paths": {}, "environment": {}}
CPU, GPUS = "1xCPU", "8xA100-80GB"

Row = dict[str, Any]
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


def plain_row(_: str = "") -> Row:
    return {"messages": TURNS}


def role_row(text: str) -> Row:
    return {"messages": [TURNS[0], {"role": text, "content": "Ho"}]}


def turn_row(text: str) -> Row:
    return {"messages": [{"role": turn["role"], text: turn["content"]} for turn in TURNS]}


def named_row(text: str) -> Row:
    return {text: TURNS}


def pair_row(text: str) -> Row:
    return {"prompt": "Hi", text: "Ho"}


class Slot(NamedTuple):
    """Where a text goes. `path` ends with the key of the value, or with None where the text is the key itself.

    `python`: where the text is accepted it must be a string constant of train.py. `row`: makes the data that fits it.
    """

    recipe: dict[str, Any]
    path: tuple[str | int | None, ...]
    gpus: str = CPU
    python: bool = False
    row: Callable[[str], Row] = plain_row
    site: bool = False
    value: Any = "x"


FIRST = ("data", "train", 0)
READ = ("messages", "content", "completion", "assistant", "system_prompt")  # keys that change how a row is read
SLOTS = {
    "name": Slot(CHAT, ("name",)),
    "description": Slot(CHAT, ("description",)),
    "stack": Slot(CHAT, ("stack",)),
    "a key": Slot(CHAT, (None,)),
    "a table": Slot(CHAT, (None, "kind")),
    "a key of a table": Slot(CHAT, ("train", None)),
    "model.base": Slot(CHAT, ("model", "base")),
    "model.revision": Slot(HUB, ("model", "revision"), GPUS, python=True),
    "model.attention": Slot(CHAT, ("model", "attention")),
    "model.chat_template": Slot(CHAT, ("model", "chat_template")),
    "model.new_tokens": Slot(LORA, ("model", "new_tokens", 0), python=True),
    "model.extra value": Slot(HUB, ("model", "extra", "variant"), GPUS, python=True),
    "model.extra key": Slot(HUB, ("model", "extra", None), GPUS),
    "adapter.targets": Slot(LORA, ("adapter", "targets")),
    "adapter.targets item": Slot(LORA, ("adapter", "targets", 0)),
    "adapter.modules_to_save": Slot(LORA, ("adapter", "modules_to_save", 0)),
    "adapter.extra value": Slot(LORA, ("adapter", "extra", "megatron_core"), python=True),
    "adapter.extra key": Slot(LORA, ("adapter", "extra", None)),
    "adapter.extra inner key": Slot(LORA, ("adapter", "extra", "rank_pattern", None), python=True, value=8),
    "data.system_prompt": Slot(CHAT, ("data", "system_prompt"), python=True),
    "source": Slot(CHAT, (*FIRST, "source")),
    "source with an ending": Slot(CHAT, (*FIRST, "source"), value="{}.jsonl"),
    "eval source": Slot(CHAT, ("data", "eval"), value=[{"source": "{}", "format": "chat"}]),
    "columns value": Slot(CHAT, (*FIRST, "columns", "messages"), python=True, row=named_row),
    "columns inner value": Slot(CHAT, (*FIRST, "columns", "content"), python=True, row=turn_row),
    "columns of pairs": Slot(PAIRS, (*FIRST, "columns", "completion"), python=True, row=pair_row),
    "columns key": Slot(CHAT, (*FIRST, "columns", None)),
    "roles value": Slot(CHAT, (*FIRST, "roles", "assistant"), python=True, row=role_row),
    "roles key": Slot(CHAT, (*FIRST, "roles", None)),
    "split": Slot(HUB, (*FIRST, "split"), GPUS, python=True),
    "data revision": Slot(HUB, (*FIRST, "revision"), GPUS, python=True),
    "train.scheduler": Slot(CHAT, ("train", "scheduler")),
    "train.optimizer": Slot(CHAT, ("train", "optimizer")),
    "train.extra value": Slot(CHAT, ("train", "extra", "optim_args"), GPUS, python=True),
    "train.extra key": Slot(CHAT, ("train", "extra", None)),
    "train.extra inner value": Slot(CHAT, ("train", "extra", "dataset_kwargs", "a", "b"), python=True),
    "train.extra inner key": Slot(CHAT, ("train", "extra", "dataset_kwargs", None), python=True),
    "track.project": Slot({**CHAT, "track": {"to": ["wandb"]}}, ("track", "project"), python=True),
    "site slurm key": Slot(SITE, ("slurm", None), GPUS, site=True),
    "site paths.cache": Slot(SITE, ("paths", "cache"), GPUS, site=True),
    "site environment value": Slot(SITE, ("environment", "GREETING"), GPUS, site=True),
    "site environment name": Slot(SITE, ("environment", None), GPUS, site=True),
    "site table": Slot(SITE, (None, "x"), GPUS, site=True),
}


def toml_string(text: str) -> str:
    """Returns a basic string; what TOML does not allow as it is becomes an escape, a lone surrogate too."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    hidden = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
    return '"' + "".join(escapes.get(c) or (f"\\u{ord(c):04x}" if hidden.match(c) else c) for c in text) + '"'


def toml(value: Any) -> str:
    match value:
        case str():
            return toml_string(value)
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{toml_string(k)} = {toml(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(toml(v) for v in value) + "]"
        case _:
            return repr(value)


def document(value: Mapping[str, Any]) -> str:
    return "".join(f"{toml_string(k)} = {toml(v)}\n" for k, v in value.items())


def filled(slot: Slot, text: str) -> dict[str, Any]:
    """Returns the recipe or site with the text in its slot."""
    whole = copy.deepcopy(slot.recipe)
    here: Any = whole
    *above, last = slot.path
    for part, following in zip(above, slot.path[1:], strict=True):
        name = text if part is None else part
        here = here.setdefault(name, [] if isinstance(following, int) else {}) if isinstance(here, dict) else here[name]
    if isinstance(here, list):
        here.append(text)
    elif last is None:
        here[text] = slot.value
    elif slot.value == "x":
        here[last] = text
    else:
        here[last] = json.loads(json.dumps(slot.value).replace("{}", json.dumps(text)[1:-1]))
    return whole


# --- What is asked of every outcome ------------------------------------------------------------------------------


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    bundle: Path

    @property
    def said(self) -> str:
        return self.out + self.err


Compile = Callable[..., Outcome]


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compile:
    """Returns a function that compiles recipe text in an empty folder and holds the outcome against the rules."""
    (tmp_path / "tiny").symlink_to(TINY)
    monkeypatch.chdir(tmp_path)
    write_rows(plain_row())

    def compile_text(text: str | bytes, gpus: str = CPU, site: str | None = None, words: Sequence[str] = ()) -> Outcome:
        raw = text if isinstance(text, bytes) else text.encode("utf-8")
        Path("recipe.toml").write_bytes(raw)
        Path("site.toml").write_text(site or "", encoding="utf-8")
        shutil.rmtree("out", ignore_errors=True)
        capsys.readouterr()
        code = run_words(words) if words else compile_command(Path("recipe.toml"), gpus=gpus, site=Path("site.toml"))
        said = capsys.readouterr()
        outcome = Outcome(code, said.out, said.err, tmp_path / said.out.removesuffix("\n"))
        judge(outcome, raw)
        return outcome

    return compile_text


def run_words(words: Sequence[str]) -> int:
    """Runs `ftc compile recipe.toml WORDS...` from its words; parsing them takes longer than compiling."""
    with pytest.raises(SystemExit) as stop:
        main(["compile", "recipe.toml", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def collect(texts: Mapping[str, str], ask: Callable[[str], None]) -> str:
    """Asks about every text; returns the faults with the names of their texts, so that one hides no other."""
    faults = []
    for name, text in texts.items():
        try:
            ask(text)
        except (Exception, pytest.fail.Exception) as fault:
            faults.append(f"{name}: {type(fault).__name__}: {str(fault)[-1000:]}")
    return "\n\n".join(faults)


def write_rows(row: Row, count: int = 20) -> None:
    Path("rows.jsonl").write_text((json.dumps(row) + "\n") * count, encoding="utf-8")


def judge(outcome: Outcome, raw: bytes) -> None:
    assert outcome.code in (0, 1, 2), outcome.err[-3000:]
    assert "Traceback" not in outcome.said, outcome.err[-3000:]
    strange = {ch for ch in outcome.said if ch != "\n" and not ch.isprintable()}
    assert not strange, f"a terminal would obey {strange}"
    if outcome.code == 1:
        assert re.search(r"^error\[FTC\d{3}\]: \S", outcome.err, re.MULTILINE), outcome.err
    elif outcome.code == 2:
        assert outcome.err.startswith("ftc: ")
    else:
        judge_bundle(outcome.bundle, raw)
    assert not [p for p in Path().rglob("*") if p.name == TRAP], "a text was executed"


_judged: set[tuple[str, bytes]] = set()


def judge_bundle(bundle: Path, raw: bytes) -> None:
    """Every file parses as what it is. The same text is not judged twice."""
    assert (bundle / "recipe.toml").read_bytes() == raw
    judge_manifest(bundle)
    for path in sorted(p for p in bundle.rglob("*") if p.suffix in JUDGES and p.parent.name not in ("data", "model")):
        mark = (path.name, path.read_bytes())
        if mark not in _judged:
            JUDGES[path.suffix](path)
            _judged.add(mark)


def judge_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def judge_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def judge_markdown(path: Path) -> None:
    text = re.sub(r"\\.", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"<\w|!\[|\]\(", text)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def judge_script(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    directives = [line for line in path.read_text(encoding="utf-8").split("\n") if line.startswith("#SBATCH")]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=[\w.,:+/%-]+)?", line) for line in directives), directives
    assert not any("--wrap" in line for line in directives)


def judge_manifest(bundle: Path) -> None:
    lines = (bundle / "MANIFEST.sha256").read_text(encoding="utf-8").split("\n")[:-1]
    assert all(re.fullmatch(r"[0-9a-f]{64}  [^\\]+", line) for line in lines), lines
    files = [p for p in bundle.rglob("*") if p.is_file() and p.name != "MANIFEST.sha256"]
    digests = {p.relative_to(bundle).as_posix(): sha256(p.read_bytes()).hexdigest() for p in files}
    assert {line[66:]: line[:64] for line in lines} == digests


def parse_python(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an invalid escape is only a warning yet
        text = path.read_text(encoding="utf-8")
        compile(text, path.name, "exec")
        return ast.parse(text)


def constants(path: Path) -> set[str]:
    nodes = ast.walk(parse_python(path))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def judge_python(path: Path) -> None:
    parse_python(path)


JUDGES: dict[str, Callable[[Path], None]] = {
    ".py": judge_python,
    ".json": judge_json,
    ".yaml": judge_yaml,
    ".md": judge_markdown,
    ".sh": judge_script,
    ".sbatch": judge_script,
}


def reader_of(train: Path) -> Callable[[Row], Row]:
    """Returns the function of train.py that reshapes a row, with the constants that it reads; or one that does not."""
    tree = parse_python(train)
    wanted = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.endswith("_row")]
    if not wanted:
        return lambda row: row
    values = [
        n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) in ("ROLES", "SYSTEM_PROMPT")
    ]
    names: dict[str, Any] = {"Any": Any}
    exec(compile(ast.Module([*values, *wanted], []), "train.py", "exec"), names)
    found: Callable[[Row], Row] = names[wanted[0].name]
    return found


# --- Every text in every key -------------------------------------------------------------------------------------


RUN = ("site paths.cache", "site environment value")  # asked below, by running the scripts


@pytest.mark.parametrize(
    "slot", [SLOTS[name] for name in SLOTS if name not in RUN], ids=[n for n in SLOTS if n not in RUN]
)
def test_a_text_is_refused_or_stays_a_text(slot: Slot, compiled: Compile) -> None:
    def ask(text: str) -> None:
        write_rows(slot.row(text))
        whole = document(filled(slot, text))
        outcome = compiled(document(CHAT), slot.gpus, whole) if slot.site else compiled(whole, slot.gpus)
        if outcome.code == 0 and slot.python:
            assert text in constants(outcome.bundle / "train.py")
        if outcome.code == 0 and slot.path[-1] in READ:
            read = reader_of(outcome.bundle / "train.py")(slot.row(text))
            system = [{"role": "system", "content": text}] if slot.path[-1] == "system_prompt" else []
            turns = {"messages": system + TURNS}
            assert read == ({"prompt": "Hi", "completion": "Ho"} if slot.recipe is PAIRS else turns)

    faults = collect(TEXTS, ask)
    assert not faults, faults


# Keys that take a few words, a number or a name: the text goes into all of them at once, each on a line of its own.
CLOSED = """\
name = "tiny"
model.base = "tiny/model"
model.dtype = @
quantization.bits = @
quantization.kind = @
quantization.double = @
adapter.kind = @
adapter.r = @
method.kind = @
method.loss_on = @
data.packing = @
data.train = [
    { source = "rows.jsonl", format = "chat" },
    { source = "rows.jsonl", format = @ },
    { source = "rows.jsonl", format = "chat", weight = @ },
]
train.precision = @
train.epochs = @
train.seed = @
plan.strategy = @
plan.micro_batch = @
plan.gradient_checkpointing = @
plan.offload = @
plan.kernels = @
plan.objective = @
checkpoint.every = @
checkpoint.best = @
track.to = ["none", @]
output.merge = @
"""
CLOSED_SITE = """\
slurm.time = @
slurm.cpus_per_gpu = @
node.memory_gib = @
price.gpu_hour = @
"""
SITE_WORDS = """\
slurm.partition = @
slurm.account = @
slurm.qos = @
slurm.constraint = @
slurm.gpu_type = @
slurm.modules = ["cuda", @]
"""


def lines_of(pattern: str) -> set[int]:
    return {number for number, line in enumerate(pattern.splitlines(), 1) if "@" in line}


@pytest.mark.parametrize("pattern", [CLOSED, CLOSED_SITE], ids=["recipe", "site"])
def test_a_text_for_a_word_is_refused_wherever_it_stands(pattern: str, compiled: Compile) -> None:
    def ask(text: str) -> None:
        whole, name = pattern.replace("@", toml_string(text)), "site.toml" if pattern == CLOSED_SITE else "recipe.toml"
        outcome = compiled(document(CHAT), CPU, whole) if pattern == CLOSED_SITE else compiled(whole)
        found = {int(line) for line in re.findall(rf"--> {name}:(\d+):", outcome.err)}
        assert outcome.code == 1
        assert found == lines_of(pattern) or "FTC001" in outcome.err

    faults = collect(TEXTS, ask)
    assert not faults, faults


def test_a_text_for_a_name_of_the_site_is_refused_or_a_plain_word(compiled: Compile) -> None:
    def ask(text: str) -> None:
        outcome = compiled(document(HUB), GPUS, SITE_WORDS.replace("@", toml_string(text)))
        found = {int(line) for line in re.findall(r"--> site.toml:(\d+):", outcome.err)}
        if outcome.code == 0:
            assert re.fullmatch(r"[A-Za-z0-9][\w.,:+/-]*", text, re.ASCII)
            assert f"#SBATCH --partition={text}\n" in (outcome.bundle / "submit.sbatch").read_text(encoding="utf-8")
        else:
            assert found == lines_of(SITE_WORDS) or "FTC001" in outcome.err

    faults = collect(TEXTS, ask)
    assert not faults, faults


MEANT = ("data.system_prompt", "train.extra value", "description", "site environment value", "site paths.cache")
HARMLESS = ("double quote", "three single", "substitution", "expression", "table", "yaml", "emoji", "python", "option")


@pytest.mark.parametrize("slot", MEANT)
def test_a_text_that_only_looks_odd_is_taken(slot: str, compiled: Compile) -> None:
    """Refusing everything would pass the test above; prose and paths may hold any printable character."""
    place = SLOTS[slot]

    def ask(text: str) -> None:
        whole = document(filled(place, text))
        done = compiled(document(CHAT), place.gpus, whole) if place.site else compiled(whole, place.gpus)
        assert done.code == 0, done.err

    faults = collect({name: TEXTS[name] for name in HARMLESS}, ask)
    assert not faults, faults


LONG = ["data.system_prompt", "name", "a key", "train.extra inner key", "site environment name"]


@pytest.mark.parametrize("slot", LONG)
def test_a_mebibyte_is_refused_in_few_words(slot: str, compiled: Compile) -> None:
    place = SLOTS[slot]
    whole = document(filled(place, "x" * 2**20))
    outcome = compiled(document(CHAT), CPU, whole) if place.site else compiled(whole)
    assert outcome.code == 1 and len(outcome.err) < 1000


SETS = {
    "a value": "data.system_prompt={}",
    "an argument": "train.extra.optim_args={}",
    "the key": "train.extra.{}=1",
    "all": "{}",
}


@pytest.mark.parametrize("form", SETS.values(), ids=SETS)
def test_a_text_in_set_is_refused_or_stays_a_text(form: str, compiled: Compile) -> None:
    def ask(text: str) -> None:
        outcome = compiled(document(CHAT), words=["--gpus", CPU, "--set=" + form.replace("{}", text)])
        if form.endswith("={}"):
            assert outcome.code == 1 or meant(text) in constants(outcome.bundle / "train.py")
        else:
            assert outcome.code == 1

    faults = collect(TEXTS, ask)
    assert not faults, faults


def meant(text: str) -> Any:
    """Returns what `--set key=text` stands for: the TOML value, or the text itself where it is none."""
    try:
        table = tomllib.loads(f"value = {text.strip()}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    return table["value"] if len(table) == 1 else text.strip()


def test_a_text_as_the_target_is_refused(compiled: Compile) -> None:
    def ask(text: str) -> None:
        assert compiled(document(CHAT), words=[f"--gpus={text}"]).code == 1

    faults = collect({**TEXTS, "mebibyte": "x" * 2**20, "many": "9" * 5000 + "xA100"}, ask)
    assert not faults, faults


@pytest.mark.parametrize("text", ["--help", "-rf", "-", "--", ""])
def test_an_option_as_the_value_of_an_option(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--gpus", "--set", "--site", "--output"):
        with pytest.raises(SystemExit) as stop:
            main(["compile", str(TINY.parent / "quickstart.toml"), option, text])
        said = capsys.readouterr()
        assert stop.value.code in (1, 2) or "Usage" in said.out
        assert "Traceback" not in said.err


def test_what_is_printed_is_no_command_to_the_terminal(compiled: Compile, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(text: str) -> None:
        data = {**CHAT["data"], "system_prompt": text}
        Path("recipe.toml").write_text(document({**CHAT, "description": text, "data": data}), encoding="utf-8")
        for words in (["check"], ["plan", "--gpus", CPU]):
            with pytest.raises(SystemExit) as stop:
                main([words[0], "recipe.toml", *words[1:]])
            said = capsys.readouterr()
            assert stop.value.code in (0, 1)
            assert all(ch == "\n" or ch.isprintable() for ch in said.out + said.err)

    faults = collect(TEXTS, ask)
    assert not faults, faults


def test_a_file_name_is_no_command_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31m\u202eb.toml"
    (tmp_path / name).write_text("name = 1\n")
    for path in (tmp_path / name, tmp_path / f"absent{name}"):
        with pytest.raises(SystemExit) as stop:
            main(["check", str(path)])
        said = capsys.readouterr()
        assert stop.value.code == 1
        assert all(ch == "\n" or ch.isprintable() for ch in said.out + said.err)


# --- Scripts that run --------------------------------------------------------------------------------------------

STUBS = {
    "spy": '#!/bin/sh\nenv -0 > "$SPY"\n',
    "srun": "#!/bin/sh\n",
    "module": "#!/bin/sh\n",
    "scontrol": "#!/bin/sh\necho a b\n",
}


def stubs(folder: Path) -> Path:
    """Returns a folder with stand-ins for Python and the commands of a cluster."""
    folder.mkdir()
    for name, text in STUBS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def run_script(script: str, bundle: Path, places: Path) -> subprocess.CompletedProcess[str]:
    slurm = {"SLURM_SUBMIT_DIR": str(bundle), "SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a"}
    own = {"PATH": f"{places}:{os.environ['PATH']}", "FTC_PYTHON": str(places / "spy"), "SPY": str(bundle / "seen")}
    return subprocess.run(
        ["bash", script], cwd=bundle, env={**own, **slurm}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("key", ["GREETING", "description", "HF_HOME"])
def test_what_the_site_says_arrives_unchanged(key: str, compiled: Compile, tmp_path: Path) -> None:
    places = stubs(tmp_path / "bin")

    def ask(text: str) -> None:
        site = {"paths": {"cache": text}} if key == "HF_HOME" else {"environment": {key: text}}
        outcome = compiled(document(HUB), GPUS, document(site))
        for script in ("launch.sh", "submit.sbatch") if outcome.code == 0 else ():
            done = run_script(script, outcome.bundle, places)
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            seen = (outcome.bundle / "seen").read_bytes().decode()
            lines = dict(part.split("=", 1) for part in seen.split("\0") if "=" in part)
            assert lines.get(key, "") == text, script

    faults = collect(TEXTS, ask)
    assert not faults, faults


def test_the_site_path_of_large_data_is_a_plain_constant(compiled: Compile) -> None:
    def ask(text: str) -> None:
        write_rows({"messages": [TURNS[0], {"role": "assistant", "content": "Ho" * 2**19}]}, count=2)
        outcome = compiled(document(CHAT), CPU, document({"paths": {"data": text}}))
        if outcome.code == 0 and text:
            assert text in constants(outcome.bundle / "train.py")

    faults = collect(TEXTS, ask)
    assert not faults, faults


# --- Files with hostile names or contents ------------------------------------------------------------------------

FILE_NAMES = {
    name: text.replace("/", "_")
    for name, text in TEXTS.items()
    if 0 < len(text) < 200 and not {"\0", "\ud800"} & set(text)
}


def test_a_file_name_that_a_glob_finds(compiled: Compile) -> None:
    def ask(name: str) -> None:
        shutil.rmtree("found", ignore_errors=True)
        Path("found").mkdir()
        for file in (f"{name}.jsonl", "other.jsonl"):
            shutil.copy("rows.jsonl", Path("found", file))
        recipe = {**CHAT, "data": {"train": [{"source": "found/*.jsonl", "format": "chat"}]}}
        outcome = compiled(document(recipe))
        if outcome.code == 0:
            assert {f"{name}.jsonl", "other.jsonl"} <= constants(outcome.bundle / "train.py")

    faults = collect(FILE_NAMES, ask)
    assert not faults, faults


def test_a_file_name_in_a_model_folder(compiled: Compile) -> None:
    def ask(name: str) -> None:
        shutil.rmtree("model", ignore_errors=True)
        shutil.copytree(TINY / "model", "model")
        Path("model", f"{name}.json").write_text("{}")
        outcome = compiled(document({**CHAT, "model": {"base": "model"}}))
        assert outcome.code == 1 or (outcome.bundle / "model" / f"{name}.json").is_file()

    faults = collect(FILE_NAMES, ask)
    assert not faults, faults


@pytest.mark.parametrize("name", ["m (1)", "m@1=+,", "ünï", "m.v2", "a/b/c"])
def test_a_model_folder_with_an_odd_name(name: str, compiled: Compile) -> None:
    shutil.copytree(TINY / "model", name)
    assert compiled(document({**CHAT, "model": {"base": name}})).code == 0


def test_a_template_file_is_copied_and_never_rendered(compiled: Compile) -> None:
    recipe = document({**CHAT, "model": {"base": "tiny/model", "chat_template": "odd.jinja"}})

    def ask(text: str) -> None:
        whole = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}" + text
        raw = whole.encode("utf-8", "surrogatepass")
        Path("odd.jinja").write_bytes(raw)
        outcome = compiled(recipe)
        assert outcome.code == 1 or (outcome.bundle / "chat_template.jinja").read_bytes() == raw

    faults = collect(TEXTS, ask)
    assert not faults, faults


ODD_FILES = {
    "nul": b'name = "a\0b"\n',
    "not utf-8": b'name = "\xff\xfe"\n',
    "utf-16": "name = 'a'\n".encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + document(CHAT).encode(),
    "raw escape": b'name = "\x1b[31m"\n',
    "raw newline": b'name = "a\nb"\n',
    "raw direction": 'name = "a" # \u202e\n'.encode(),
    "comment": document(CHAT).encode() + "# \u202e $(touch PWNED) ' \" '''\n".encode(),
    "windows": document(CHAT).replace("\n", "\r\n").encode(),
    "no last newline": document(CHAT).rstrip().encode(),
    "empty": b"",
    "three mebibytes": b"# " + b"x" * 3 * 2**20,
    "a script": b"#!/bin/sh\ntouch PWNED\n",
    "deep arrays": document(CHAT).encode() + b"x = " + b"[" * 5000 + b"]" * 5000,
    "deep tables": document(CHAT).encode() + b"x = " + b"{a=" * 300 + b"1" + b"}" * 300,
    "deep keys": document(CHAT).encode() + b".".join([b"a"] * 2000) + b" = 1\n",
    "deep header": document(CHAT).encode() + b"[" + b".".join([b"a"] * 2000) + b"]\n",
    "many tables": document(CHAT).encode() + b"".join(b"[t%d]\n" % n for n in range(500)),
    "many entries": document(CHAT).encode() + b"x = [" + b"1," * 5000 + b"]\n",
}


@pytest.mark.parametrize("raw", ODD_FILES.values(), ids=ODD_FILES)
def test_an_odd_file_is_refused_or_carried(raw: bytes, compiled: Compile) -> None:
    outcome = compiled(raw)
    if raw in (ODD_FILES["windows"], ODD_FILES["no last newline"]):
        assert outcome.code == 0, outcome.err


ODD_VALUES = [
    "inf",
    "-inf",
    "nan",
    "1979-05-27",
    "07:32:00",
    "1979-05-27T07:32:00Z",
    "9" * 5000,
    "0x" + "f" * 5000,
    "-0.0",
]
ODD_VALUES += [
    "1e400",
    "[]",
    "{}",
    "[[1], [inf]]",
    "{a = nan}",
    "{a = 1979-05-27}",
    "[07:32:00]",
    "[" * 150 + "]" * 150,
    "true",
]
ODD_VALUES += ["{a=" * 150 + "1" + "}" * 150, "0", "-1", "2147483648", "9223372036854775808", "0b0", "1e-320"]
NUMBER_KEYS = [
    "train.learning_rate",
    "train.epochs",
    "train.seed",
    "train.warmup",
    "train.global_batch",
    "data.max_length",
]
NUMBER_KEYS += [
    "data.eval_fraction",
    "data.packing",
    "adapter.r",
    "adapter.dropout",
    "checkpoint.every",
    "checkpoint.keep",
]
NUMBER_KEYS += [
    "train.max_grad_norm",
    "train.extra.adam_epsilon",
    "train.extra.dataset_kwargs",
    "plan.micro_batch",
    "name",
]
NUMBER_KEYS += [
    "model.extra.max_memory",
    "adapter.extra.rank_pattern",
    "data.train",
    "data",
    "model.new_tokens",
    "train.extra",
]


@pytest.mark.parametrize("key", NUMBER_KEYS)
def test_an_odd_value_is_refused_or_stays_itself(key: str, compiled: Compile) -> None:
    recipe = copy.deepcopy(LORA)
    *tables, last = key.split(".")
    here = recipe
    for table in tables:
        here = here.setdefault(table, {})
    here.pop(last, None)
    here["@"] = 0

    def ask(value: str) -> None:
        outcome = compiled(document(recipe).replace('"@" = 0', f"{last} = {value}"))
        if outcome.code == 0:
            names = {n.id for n in ast.walk(parse_python(outcome.bundle / "train.py")) if isinstance(n, ast.Name)}
            assert not names & {"inf", "nan"}, "train.py would stop with a NameError"

    faults = collect({value[:24]: value for value in ODD_VALUES}, ask)
    assert not faults, faults


def test_a_dotted_set_of_any_depth(compiled: Compile) -> None:
    for depth in (3, 100, 2000):
        assert compiled(document(CHAT), words=["--gpus", CPU, "--set", ".".join(["a"] * depth) + "=1"]).code == 1
        assert compiled(document(CHAT), words=["--gpus", CPU, "--set", "train.seed=" + "[" * depth]).code == 1


def test_bytes_on_the_command_line_that_are_no_text(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "tiny")
    (tmp_path / "recipe.toml").write_text(document(CHAT))
    program = [sys.executable, "-c", "from ftc.cli import main; main()", "compile"]
    for words in (
        [b"recipe.toml", b"--gpus", b"1xCPU", b"--set", b"train.seed=7 # \xff"],
        [b"recipe.toml", b"--gpus", b"1xCPU", b"--set", b"description=\xff"],
        [b"recipe.toml", b"--gpus", b"1xCPU", b"--set", b"\xff=1"],
        [b"recipe.toml", b"--gpus", b"1x\xff"],
        [b"\xff.toml", b"--gpus", b"1xCPU"],
        [b"recipe.toml", b"--gpus", b"1xCPU", b"--site", b"\xff"],
        [b"recipe.toml", b"--gpus", b"1xCPU", b"-o", b"\xff"],
    ):
        done = subprocess.run([*program, *words], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode in (0, 1, 2), (words, done.stderr.decode(errors="replace")[-1500:])
        assert b"Traceback" not in done.stderr


# --- Arguments that are passed through ---------------------------------------------------------------------------


def calls(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Yields each call's name with its keywords, and each dictionary's with its keys."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), [k.arg for k in node.keywords if k.arg]
        elif isinstance(node, ast.Dict):
            yield "a dict", [str(k.value) for k in node.keys if isinstance(k, ast.Constant)]


PASSED = {"train": "SFTConfig", "adapter": "LoraConfig", "model": "a dict"}


@pytest.mark.parametrize("table", PASSED)
def test_an_argument_that_ftc_sets_itself_never_stands_twice(table: str, compiled: Compile) -> None:
    recipe = copy.deepcopy(LORA)
    recipe["data"] |= {"eval_fraction": 0.1, "packing": True}
    recipe["adapter"]["kind"] = "dora"
    for new_tokens in ([], ["<|a|>"]):
        recipe["model"]["new_tokens"] = new_tokens
        plain = compiled(document(recipe))
        assert plain.code == 0, plain.err
        wanted = (PASSED[table], "AutoModelForCausalLM.from_pretrained") if table == "model" else (PASSED[table],)
        found = [names for name, names in calls(parse_python(plain.bundle / "train.py")) if name in wanted]
        for name in sorted({name for names in found for name in names}):
            for value in ("true", "1", '"x"', "{a = 1}"):
                text = document({**recipe, table: {**recipe[table], "extra": {name: "@"}}}).replace('"@"', value)
                outcome = compiled(text)
                whole = list(calls(parse_python(outcome.bundle / "train.py"))) if outcome.code == 0 else []
                twice = [call for call, names in whole if len(names) != len(set(names))]
                assert not twice, f"`{name}` stands twice in {twice}"


# --- Quoting -----------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(), max_size=40) | st.sampled_from(list(TEXTS.values())[:30])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
LITERALS = st.recursive(
    ANY_TEXT | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(LITERALS, st.sampled_from([0, 4, 8, 12]))
@settings(max_examples=300, deadline=None)
def test_a_python_literal_evaluates_to_its_value(value: Any, indent: int) -> None:
    text = python_literal(value, indent)
    assert repr(ast.literal_eval(text)) == repr(value)
    assert ast.literal_eval(f"({text})") == value


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_python_string_is_one_line_of_harmless_characters(text: str) -> None:
    literal = python_literal(text)
    assert all(ch.isprintable() for ch in literal)
    assert literal[0] == literal[-1] and literal[0] in "\"'"


@given(st.lists(LITERALS, min_size=20, max_size=40))
@settings(max_examples=8, deadline=None)
def test_ruff_format_keeps_a_python_literal(values: list[Any]) -> None:
    text = "".join(f"x = {python_literal(value)}\n" for value in values)
    if any(0xD800 <= ord(ch) <= 0xDFFF for ch in text):
        text = text.encode("utf-8", "ignore").decode()
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "-"]
    done = subprocess.run(ruff, input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()[:2000]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30), min_size=10, max_size=30))
@settings(max_examples=25, deadline=None)
def test_a_shell_word_arrives_as_one_argument(texts: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(map(shell_word, texts))
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [text.encode() for text in texts]
