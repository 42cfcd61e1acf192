"""The commands as a user types them: exit codes, what is printed where, what each option changes."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ftc
from ftc.cli import main

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"
QUICKSTART = str(RECIPES / "quickstart.toml")
QLORA = str(RECIPES / "llama31-8b-qlora.toml")
FULL = str(RECIPES / "llama31-8b-full.toml")
TARGETS: dict[str, str] = tomllib.loads((RECIPES / "targets.toml").read_text(encoding="utf-8"))
CODES = Path(ftc.__file__).parent / "codes.toml"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that runs `ftc WORDS...` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Run:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(words)
        said = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        assert "Traceback" not in said.err + said.out, said.err
        return Run(stop.value.code, said.out, said.err)

    return call


def write(folder: Path, text: str, name: str = "recipe.toml") -> str:
    (folder / "tiny").symlink_to(RECIPES / "tiny") if not (folder / "tiny").exists() else None
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


# --- Exit codes --------------------------------------------------------------------------------------------------

WRONG_USAGE = [
    ["frobnicate"],
    ["check"],
    ["compile"],
    ["plan"],
    ["explain"],
    ["catalog"],
    ["catalog", "colours"],
    ["compile", QUICKSTART],
    ["compile", QUICKSTART, "--json"],
    ["compile", QUICKSTART, "--gpus"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--nonsense"],
    ["compile", QUICKSTART, "another.toml", "--gpus", "1xCPU"],
    ["plan", QUICKSTART, "--locked"],
    ["check", QUICKSTART, "--json=maybe"],
    ["schema", "surplus"],
    ["--nonsense"],
]


@pytest.mark.parametrize("words", WRONG_USAGE, ids=lambda w: " ".join(Path(x).name for x in w))
def test_wrong_usage_exits_2_with_a_line_on_stderr(words: list[str], run: Any, tmp_path: Path) -> None:
    done = run(*words)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("ftc: ") and len(done.err.strip()) > 10
    assert not list(tmp_path.iterdir())


AT_FAULT = [
    ["check", "absent.toml"],
    ["plan", "absent.toml"],
    ["plan", "absent.toml", "--gpus", "1xCPU"],
    ["compile", "absent.toml", "--gpus", "1xCPU"],
    ["check", "."],
    ["check", QUICKSTART, "absent.toml"],
    ["compile", QUICKSTART, "--gpus", "1xABACUS"],
    ["compile", QUICKSTART, "--gpus", "many"],
    ["compile", QUICKSTART, "--gpus="],
    ["check", QUICKSTART, "--gpus="],
    ["plan", QUICKSTART, "--gpus="],
    ["compile", QUICKSTART, "--gpus", "0xCPU"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--site", "absent.toml"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--set", "train.learning_rate"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--set", "=1"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--set", "train..seed=1"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--set", "train.sede=1"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--set", "name.first=1"],
    ["compile", QUICKSTART, "--gpus", "1xCPU", "--check"],
    ["plan", FULL, "--gpus", "1xL4", "--set", "plan.offload=none"],
    ["check", QLORA, "--set", "data.max_length=0"],
]


@pytest.mark.parametrize("words", AT_FAULT, ids=lambda w: " ".join(Path(x).name for x in w))
def test_a_fault_exits_1_with_a_diagnostic(words: list[str], run: Any, tmp_path: Path) -> None:
    done = run(*words)
    assert done.code == 1, done
    assert re.search(r"^error\[FTC\d{3}\]: ", done.err, re.MULTILINE)
    assert "hint: " in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", AT_FAULT, ids=lambda w: " ".join(Path(x).name for x in w))
def test_a_fault_is_json_on_request(words: list[str], run: Any) -> None:
    done = run(*words, "--json")
    assert done.code == 1, done
    assert done.err == ""
    whole = json.loads(done.out)
    reports = whole if isinstance(whole, list) else [whole]
    found = [d for report in reports for d in report["diagnostics"]]
    assert any(d["severity"] == "error" for d in found)
    for d in found:
        assert set(d) >= {"code", "severity", "message", "file", "line", "column", "hints"}
        assert re.fullmatch(r"FTC\d{3}", d["code"]) and d["message"]


def test_help_and_version_exit_0(run: Any) -> None:
    assert run("--version").out.strip() == ftc.__version__
    helped = run("--help")
    assert helped.code == 0
    for name in ("compile", "check", "plan", "explain", "schema", "catalog"):
        assert name in helped.out
        assert run(name, "--help").code == 0


def test_the_program_that_is_installed_exits_as_the_function_does(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from ftc.cli import main; main()"]
    expected = {("check", QUICKSTART): 0, ("check", "absent.toml"): 1, ("frobnicate",): 2}
    for words, code in expected.items():
        done = subprocess.run([*program, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    program = f"'{sys.executable}' -c 'from ftc.cli import main; main()'"
    for words in ("schema", "catalog models --json", "catalog models"):
        line = f"{program} {words} | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode != 70, done.stderr
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_compile_time_needs_no_training_library(tmp_path: Path) -> None:
    """Also: not the network, not the clock of this machine, not its GPUs."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'trl', 'peft', 'datasets', 'numpy', 'pyarrow'):\n"
        "            raise SystemExit('imported ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from ftc.cli import main\n"
        "main()\n"
    )
    words = ["compile", QUICKSTART, "--gpus", "2xCPU", "-o", str(tmp_path / "bundle")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- What is printed ---------------------------------------------------------------------------------------------


def test_compile_prints_the_folder_and_nothing_else_on_stdout(run: Any) -> None:
    done = run("compile", QUICKSTART, "--gpus", "1xCPU", "-o", "made")
    assert (done.code, done.out) == (0, "made\n")
    assert run("compile", QUICKSTART, "--gpus", "1xCPU").out == "out/quickstart\n"


@pytest.mark.parametrize("words", [["check"], ["plan"], ["plan", "--gpus", "1xCPU"], ["compile", "--gpus", "1xCPU"]])
def test_json_is_one_object_on_stdout_and_nothing_else(words: list[str], run: Any) -> None:
    done = run(words[0], QUICKSTART, *words[1:], "--json")
    assert done.code == 0
    assert done.err == ""
    report = json.loads(done.out)
    assert report["name"] == "quickstart" and report["diagnostics"] == []


def test_json_says_what_the_text_says(run: Any, tmp_path: Path) -> None:
    broken = write(tmp_path, 'name = "X"\n[model]\nbase = "tiny/model"\n[metod]\nkind = "sft"\n')
    text, report = run("check", broken).err, json.loads(run("check", broken, "--json").out)
    for d in report["diagnostics"]:
        assert f"{d['severity']}[{d['code']}]: {d['message']}" in text
        assert d["file"] is None or f"{d['file']}:{d['line']}:{d['column']}" in text
        assert all(f"hint: {hint}" in text for hint in d["hints"])


def test_every_fault_of_a_stage_is_told_at_once(run: Any, tmp_path: Path) -> None:
    wrong = 'name = "X"\nstak = 1\n[model]\nbase = 3\n[method]\nkind = "stf"\n[data]\nmax_length = "a"\n'
    done = run("check", write(tmp_path, wrong))
    places = re.findall(r"recipe\.toml:(\d+):\d+", done.err)
    assert {"1", "2", "4", "6", "8"} <= set(places)
    assert [int(p) for p in places] == sorted(int(p) for p in places)


def test_check_takes_several_recipes(run: Any, tmp_path: Path) -> None:
    assert run("check", QUICKSTART, QLORA, FULL).out == "3 recipes checked\n"
    assert run("check", QUICKSTART).out == "1 recipe checked\n"
    broken = write(tmp_path, "name = 1\n")
    done = run("check", QUICKSTART, broken)
    assert done.code == 1 and done.out == "" and "recipe.toml:1:8" in done.err
    reports = json.loads(run("check", QUICKSTART, broken, QLORA, "--json").out)
    assert [r["name"] for r in reports] == ["quickstart", None, "llama31-8b-qlora"]
    assert [r["ok"] for r in reports] == [True, False, True]


@pytest.mark.parametrize("text", ["name = 1\n", "", 'name = "a"\n', "[model\n"])
def test_check_of_several_with_the_same_fault_tells_each(text: str, run: Any, tmp_path: Path) -> None:
    paths = [write(tmp_path, text, f"{n}.toml") for n in "ab"]
    done = run("check", *paths)
    assert done.code == 1
    assert "a.toml:" in done.err and "b.toml:" in done.err


def test_warnings_and_advice_do_not_fail(run: Any, tmp_path: Path) -> None:
    done = run("check", FULL, "--gpus", "16xA100")
    assert done.code == 0, done
    assert "warning[FTC317]" in done.err
    done = run("compile", QUICKSTART, "--gpus", "1xCPU", "--set", "train.epochs=50", "-o", "made")
    assert done.code == 0 and "advice[FTC906]" in done.err and (tmp_path / "made" / "train.py").is_file()


@pytest.mark.parametrize("recipe", sorted(TARGETS))
def test_every_shipped_recipe_compiles_for_its_target(recipe: str, run: Any) -> None:
    done = run("compile", str(RECIPES / f"{recipe}.toml"), "--gpus", TARGETS[recipe], "-o", "made")
    assert done.code == 0, done.err
    assert "error[" not in done.err


def test_plan_tells_decisions_reasons_and_budget(run: Any) -> None:
    done = run("plan", FULL, "--gpus", "8xH100")
    assert done.code == 0
    assert "fits" in done.out
    for word in (
        "strategy",
        "micro_batch",
        "gradient_checkpointing",
        "offload",
        "weights",
        "optimizer",
        "also considered",
    ):
        assert word in done.out


def test_plan_without_a_target_lists_the_hardware_that_would_do(run: Any) -> None:
    done = run("plan", QLORA)
    assert done.code == 0
    rows = json.loads(run("plan", QLORA, "--json").out)["hardware"]
    assert len(rows) >= 5
    for row in rows:
        assert f"--gpus {row['gpus']}" in done.out
        assert row["high_gib"] <= row["memory_gib"]
    for row in rows[:: max(1, len(rows) // 4)]:
        assert run("plan", QLORA, "--gpus", row["gpus"]).code == 0, row


def test_plan_without_a_target_of_a_recipe_at_fault(run: Any) -> None:
    assert run("plan", QLORA, "--set", "adapter.r=0").code == 1


def test_schema_is_a_json_schema_of_every_table(run: Any) -> None:
    done = run("schema")
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    tables = {"model", "quantization", "adapter", "method", "data", "train", "plan", "checkpoint", "track", "output"}
    assert tables | {"name", "description", "stack"} <= set(schema["properties"])
    assert set(schema["required"]) == {"name", "model", "method", "data"}
    for table in schema["$defs"].values():
        assert table["additionalProperties"] is False
        assert all("description" in field for field in table["properties"].values())


@pytest.mark.parametrize("what", ["models", "gpus", "stacks"])
def test_the_catalog_lists_facts_with_sources(what: str, run: Any) -> None:
    text, rows = run("catalog", what), json.loads(run("catalog", what, "--json").out)
    assert text.code == 0 and text.err == ""
    assert len(text.out.splitlines()) == len(rows) >= 1
    assert all(row["sources"] and all(row["sources"]) for row in rows)
    names = {str(row.get("id") or row["name"]) for row in rows}
    assert {"models": "Qwen/Qwen3-4B", "gpus": "A100-80GB-SXM", "stacks": "2026.11"}[what] in names
    assert all(any(line.startswith(name) for line in text.out.splitlines()) for name in names)


@pytest.mark.skipif(not CODES.is_file(), reason="the registry of codes is not there yet")
def test_explain_tells_every_code(run: Any) -> None:
    for code in tomllib.loads(CODES.read_text(encoding="utf-8")):
        done = run("explain", code)
        assert done.code == 0 and code in done.out and "fix" in done.out
    assert run("explain", "ftc201").code == 0


@pytest.mark.skipif(not CODES.is_file(), reason="the registry of codes is not there yet")
@pytest.mark.parametrize("code", ["FTC000", "nonsense", "", "FTC2011"])
def test_explain_of_no_code_is_wrong_usage(code: str, run: Any) -> None:
    done = run("explain", code)
    assert (done.code, done.out) == (2, "")
    assert "FTC" in done.err or code in done.err


# --- What options change -----------------------------------------------------------------------------------------


def resolved(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "resolved.json").read_text(encoding="utf-8"))
    return found


def test_set_changes_values_and_is_recorded(run: Any, tmp_path: Path) -> None:
    words = ["train.learning_rate=5e-4", "data.system_prompt=You sell kites", "train.seed = 9", 'track.to=["wandb"]']
    options = [option for word in words for option in ("--set", word)]
    assert run("compile", QUICKSTART, "--gpus", "1xCPU", "-o", "made", *options).code == 0
    found = resolved(tmp_path / "made")
    assert found["overrides"] == words
    assert found["values"]["train.learning_rate"]["value"] == 5e-4
    assert found["values"]["data.system_prompt"]["value"] == "You sell kites"
    assert found["values"]["train.seed"]["value"] == 9
    assert found["values"]["track.to"]["value"] == ["wandb"]
    assert all("--set" in found["values"][word.split("=")[0].strip()]["because"] for word in words)
    text = (tmp_path / "made" / "train.py").read_text(encoding="utf-8")
    assert "learning_rate=0.0005," in text and "seed=9," in text
    assert (tmp_path / "made" / "recipe.toml").read_text() == Path(QUICKSTART).read_text()


def test_the_last_set_of_a_key_holds(run: Any, tmp_path: Path) -> None:
    options = ["--set", "train.seed=1", "--set", "train.seed=2"]
    assert run("compile", QUICKSTART, "--gpus", "1xCPU", "-o", "made", *options).code == 0
    assert resolved(tmp_path / "made")["values"]["train.seed"]["value"] == 2


def test_set_adds_a_table_that_the_recipe_lacks(run: Any, tmp_path: Path) -> None:
    options = ["--set", "adapter.kind=lora", "--set", "adapter.r=4", "--set", "train.extra.adam_beta2=0.95"]
    assert run("compile", QUICKSTART, "--gpus", "1xCPU", "-o", "made", *options).code == 0
    assert "adam_beta2=0.95," in (tmp_path / "made" / "train.py").read_text()
    assert resolved(tmp_path / "made")["values"]["adapter.r"]["value"] == 4


def test_a_fault_in_set_points_at_set(run: Any) -> None:
    done = run("check", QUICKSTART, "--set", "train.sede=9")
    assert done.code == 1 and "--set:1:1" in done.err and "`seed`" in done.err
    done = run("check", QUICKSTART, "--set", "train.seed=x")
    assert done.code == 1 and "--set:1:1" in done.err


def test_set_takes_one_value_only(run: Any) -> None:
    assert run("check", QUICKSTART, "--set", "train.seed=1\nepochs=2").code == 1


def test_check_and_plan_take_set_too(run: Any) -> None:
    assert run("check", QUICKSTART, "--set", "data.max_length=-1").code == 1
    plan = json.loads(run("plan", QUICKSTART, "--gpus", "1xCPU", "--set", "plan.micro_batch=8", "--json").out)
    assert plan["plan"]["micro_batch"] == 8


def test_locked_refuses_what_is_not_pinned(run: Any, tmp_path: Path) -> None:
    for command in (["check"], ["compile", "--gpus", "1xRTX4090"]):
        done = run(command[0], QLORA, *command[1:], "--locked")
        assert done.code == 1
        assert done.err.count("error[FTC603]") == 1  # the model is pinned, the data set is not
    text = Path(QLORA).read_text().replace('format = "chat"', f'format = "chat"\nrevision = "{COMMIT}"')
    assert run("check", write(tmp_path, text), "--locked").code == 0
    unpinned = text.replace('revision = "0e9e39f249a16976918f6564b8830bc894c89659"', 'revision = "main"')
    assert run("check", write(tmp_path, unpinned), "--locked").code == 1
    assert run("check", QUICKSTART, "--locked").code == 0  # local files are pinned by their sha256


SITE = """\
[slurm]
partition = "gpu-long"
account = "lab:kites"
qos = "high"
constraint = "a100"
time = "2-12:00:00"
cpus_per_gpu = 12
gpu_type = "a100"
modules = ["cuda/12.8", "gcc"]
[paths]
data = "/data/kites"
cache = "/shared/hf cache"
[node]
memory_gib = 2000
[price]
gpu_hour = 2.5
[environment]
NCCL_SOCKET_IFNAME = "ib0"
GREETING = "it's \\"here\\""
"""


def test_the_site_lands_in_the_scripts(run: Any, tmp_path: Path) -> None:
    site = write(tmp_path, SITE, "site.toml")
    assert run("compile", FULL, "--gpus", "2x8xA100", "--site", site, "-o", "made").code == 0
    sbatch = (tmp_path / "made" / "submit.sbatch").read_text()
    directives = [line.removeprefix("#SBATCH ") for line in sbatch.splitlines() if line.startswith("#SBATCH ")]
    assert {"--partition=gpu-long", "--account=lab:kites", "--qos=high", "--constraint=a100"} <= set(directives)
    assert {"--time=2-12:00:00", "--gpus-per-node=a100:8", "--cpus-per-task=96", "--nodes=2"} <= set(directives)
    assert sbatch.index("module load cuda/12.8") < sbatch.index("module load gcc") < sbatch.index("preflight.py")
    for script in ("submit.sbatch", "launch.sh"):
        exports = [x for x in (tmp_path / "made" / script).read_text().splitlines() if x.startswith("export ")]
        command = "\n".join(["unset HF_HOME", *exports, 'printf "%s\\n" "$HF_HOME" "$NCCL_SOCKET_IFNAME" "$GREETING"'])
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["/shared/hf cache", "ib0", 'it\'s "here"']


def test_the_price_of_the_site_is_in_the_plan(run: Any, tmp_path: Path) -> None:
    site = write(tmp_path, SITE, "site.toml")
    words = ("plan", QUICKSTART, "--gpus", "1xA100", "--json")
    assert json.loads(run(*words).out)["time"]["cost"] is None
    time = json.loads(run(*words, "--site", site).out)["time"]
    assert time["cost"] == pytest.approx(time["hours"] * 2.5, rel=1e-3)


def test_a_node_with_too_little_memory_is_found(run: Any, tmp_path: Path) -> None:
    site = write(tmp_path, "[node]\nmemory_gib = 8\n", "site.toml")
    done = run("plan", FULL, "--gpus", "8xH100", "--site", site)
    assert done.code == 1 and "FTC203" in done.err


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[slurm]\npartitoin = "a"\n', "site.toml:2:1"),
        ('[slrum]\npartition = "a"\n', "site.toml:1:2"),
        ('[slurm]\npartition = "a b"\n', "site.toml:2:13"),
        ("[slurm]\npartition = 3\n", "site.toml:2:13"),
        ("[slurm]\ncpus_per_gpu = 0\n", "site.toml:2:16"),
        ('[environment]\n"A B" = "x"\n', "site.toml:2"),
        ("[environment]\nA = 1\n", "site.toml:2:5"),
        ("slurm = 1\n", "site.toml:1:9"),
        ("[slurm\n", "site.toml:1"),
    ],
)
def test_a_fault_in_the_site_is_found_where_it_stands(text: str, place: str, run: Any, tmp_path: Path) -> None:
    site = write(tmp_path, text, "site.toml")
    done = run("compile", QUICKSTART, "--gpus", "1xCPU", "--site", site)
    assert done.code == 1
    assert place in done.err
    assert "hint: " in done.err
