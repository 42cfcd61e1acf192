"""Writing a bundle: whole or not at all, never over a hand's edit, never losing what else is in the folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftc.cli import main

TINY = Path(__file__).resolve().parent.parent / "recipes" / "tiny"
ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n'
RECIPE = """\
name = "tiny"
[model]
base = "tiny/model"
[method]
kind = "sft"
[data]
max_length = 256
[[data.train]]
source = "tiny/data/chat.jsonl"
format = "chat"
[train]
max_steps = 10
global_batch = 16
[plan]
micro_batch = 4
"""
USUAL = {
    "README.md",
    "recipe.toml",
    "resolved.json",
    "plan.json",
    "train.py",
    "preflight.py",
    "accelerate.yaml",
    "launch.sh",
    "submit.sbatch",
    "requirements.txt",
    "MANIFEST.sha256",
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "tiny").symlink_to(TINY)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def compile_recipe(recipe: Path, *words: str, gpus: str = "1xCPU") -> int:
    """Compiles into `bundle` beside the recipe; returns the exit code."""
    with pytest.raises(SystemExit) as stop:
        main(["compile", str(recipe), "--gpus", gpus, "-o", str(recipe.parent / "bundle"), *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def codes(capsys: pytest.CaptureFixture[str]) -> set[str]:
    return set(re.findall(r"\[(FTC\d+)\]", capsys.readouterr().err))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names_beside(recipe: Path) -> set[str]:
    return {p.name for p in recipe.parent.iterdir()}


# --- What is written ---------------------------------------------------------------------------------------------


def test_the_bundle_is_whole_and_nothing_else_is_left(recipe: Path) -> None:
    assert compile_recipe(recipe) == 0
    bundle = recipe.parent / "bundle"
    assert set(snapshot(bundle)) >= USUAL | {"data/chat.jsonl", "model/config.json"}
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


def test_the_manifest_verifies_and_names_every_file(recipe: Path) -> None:
    assert compile_recipe(recipe, "--set", "plan.strategy=zero2", gpus="2xA100-80GB") == 0
    bundle = recipe.parent / "bundle"
    command = ["sha256sum", "--check", "--strict", "MANIFEST.sha256"]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split("  ", 1)[1] for line in (bundle / "MANIFEST.sha256").read_text().splitlines()}
    assert listed == set(snapshot(bundle)) - {"MANIFEST.sha256"}


def test_only_the_launch_script_is_executable(recipe: Path) -> None:
    compile_recipe(recipe)
    bundle = recipe.parent / "bundle"
    assert {p.name for p in bundle.rglob("*") if p.is_file() and os.access(p, os.X_OK)} == {"launch.sh"}


def test_the_same_recipe_gives_the_same_bytes_wherever_it_stands(recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "some where else" / "Ü"
    other.mkdir(parents=True)
    (other / "tiny").symlink_to(TINY)
    shutil.copy(recipe, other / "recipe.toml")
    assert compile_recipe(recipe) == compile_recipe(other / "recipe.toml") == 0
    assert snapshot(recipe.parent / "bundle") == snapshot(other / "bundle")
    for name, raw in snapshot(other / "bundle").items():
        assert str(tmp_path).encode() not in raw, name
        assert b"\r" not in raw or name.startswith(("data/", "model/")), name


def test_a_recipe_at_fault_writes_nothing(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace('kind = "sft"', 'kind = "sfd"'))
    assert compile_recipe(recipe) == 1
    assert names_beside(recipe) == {"tiny", "recipe.toml"}


def test_a_recipe_at_fault_leaves_the_old_bundle(recipe: Path) -> None:
    compile_recipe(recipe)
    before = snapshot(recipe.parent / "bundle")
    recipe.write_text(RECIPE.replace("max_length = 256", "max_length = 0"))
    assert compile_recipe(recipe) == 1
    assert snapshot(recipe.parent / "bundle") == before


def test_a_plan_that_does_not_fit_writes_nothing(recipe: Path) -> None:
    text = RECIPE.replace('"tiny/model"', '"meta-llama/Llama-3.1-70B-Instruct"')
    recipe.write_text(text.replace("[plan]", '[plan]\noffload = "none"'))
    assert compile_recipe(recipe, gpus="1xL4") == 1
    assert names_beside(recipe) == {"tiny", "recipe.toml"}


def test_the_folder_is_out_and_the_name_unless_told(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    with pytest.raises(SystemExit) as stop:
        main(["compile", "recipe.toml", "--gpus", "1xCPU"])
    assert stop.value.code == 0
    assert set(snapshot(recipe.parent / "out" / "tiny")) >= USUAL


def test_files_of_the_last_compile_go_when_they_are_not_written_any_more(recipe: Path) -> None:
    compile_recipe(recipe, "--set", "plan.strategy=zero2", gpus="2xCPU")
    bundle = recipe.parent / "bundle"
    assert (bundle / "deepspeed.json").is_file()
    assert compile_recipe(recipe) == 0
    assert not (bundle / "deepspeed.json").exists()
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


# --- `--check` ---------------------------------------------------------------------------------------------------


def test_check_is_clean_after_a_compile_and_writes_nothing(recipe: Path) -> None:
    compile_recipe(recipe)
    before = snapshot(recipe.parent / "bundle")
    assert compile_recipe(recipe, "--check") == 0
    assert snapshot(recipe.parent / "bundle") == before
    (recipe.parent / "bundle" / "run").mkdir()
    (recipe.parent / "bundle" / "run" / "log.txt").write_text("a run")
    assert compile_recipe(recipe, "--check") == 0


def test_check_without_a_bundle_fails_and_writes_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_recipe(recipe, "--check") == 1
    assert codes(capsys) >= {"FTC703"}
    assert names_beside(recipe) == {"tiny", "recipe.toml"}


ALL_FILES = sorted(USUAL | {"data/chat.jsonl", "model/config.json", "model/model.safetensors"})


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("change", ["changed", "removed"])
def test_check_finds_any_file_that_differs(
    name: str, change: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compile_recipe(recipe)
    path = recipe.parent / "bundle" / name
    if change == "changed":
        path.write_bytes(path.read_bytes() + b"\n")
    else:
        path.unlink()
    capsys.readouterr()
    assert compile_recipe(recipe, "--check") == 1
    said = capsys.readouterr().err
    assert "FTC703" in said and name in said


def test_check_finds_a_file_that_the_manifest_names_beyond_the_bundle(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compile_recipe(recipe)
    bundle = recipe.parent / "bundle"
    (bundle / "deepspeed.json").write_text("{}\n")
    manifest = bundle / "MANIFEST.sha256"
    manifest.write_text(manifest.read_text() + f"{'0' * 64}  deepspeed.json\n")
    capsys.readouterr()
    assert compile_recipe(recipe, "--check") == 1
    assert "deepspeed.json" in capsys.readouterr().err


def test_check_finds_a_bundle_of_another_recipe(recipe: Path) -> None:
    compile_recipe(recipe)
    assert compile_recipe(recipe, "--check", "--set", "train.seed=43") == 1
    assert compile_recipe(recipe, "--check", gpus="2xCPU") == 1


def test_check_finds_a_launch_script_that_cannot_be_started(recipe: Path) -> None:
    compile_recipe(recipe)
    (recipe.parent / "bundle" / "launch.sh").chmod(0o644)
    assert compile_recipe(recipe, "--check") == 1


# --- What stands there already -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.py", "README.md", "accelerate.yaml", "data/chat.jsonl"])
def test_a_bundle_edited_by_hand_is_kept(name: str, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compile_recipe(recipe)
    path = recipe.parent / "bundle" / name
    path.write_text("mine\n")
    before = snapshot(recipe.parent / "bundle")
    for words in ((), ("--set", "train.seed=43")):
        capsys.readouterr()
        assert compile_recipe(recipe, *words) == 1
        said = capsys.readouterr().err
        assert "FTC701" in said and name in said
        assert snapshot(recipe.parent / "bundle") == before
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


def test_force_overwrites_a_hand_edit_and_nothing_else(recipe: Path) -> None:
    compile_recipe(recipe)
    bundle = recipe.parent / "bundle"
    clean = snapshot(bundle)
    (bundle / "train.py").write_text("mine\n")
    (bundle / "notes.txt").write_text("mine too\n")
    assert compile_recipe(recipe, "--force") == 0
    assert snapshot(bundle) == {**clean, "notes.txt": b"mine too\n"}


def test_a_removed_file_is_written_again(recipe: Path) -> None:
    compile_recipe(recipe)
    clean = snapshot(recipe.parent / "bundle")
    (recipe.parent / "bundle" / "train.py").unlink()
    assert compile_recipe(recipe) == 0
    assert snapshot(recipe.parent / "bundle") == clean


def test_a_foreign_file_where_a_new_one_would_go_is_kept(recipe: Path) -> None:
    compile_recipe(recipe, gpus="2xCPU")
    mine = recipe.parent / "bundle" / "deepspeed.json"
    mine.write_text("mine\n")
    assert compile_recipe(recipe, "--set", "plan.strategy=zero2", gpus="2xCPU") == 1
    assert mine.read_text() == "mine\n"


def test_foreign_files_survive_recompiles(recipe: Path) -> None:
    compile_recipe(recipe)
    bundle = recipe.parent / "bundle"
    foreign = {
        "run/checkpoint-5/complete": b"",
        "run/model/model.safetensors": b"\0\1\2",
        ".venv/bin/python": b"#!/bin/sh\n",
        "notes.txt": b"mine",
        "data/extra.jsonl": b"{}\n",
        ".hidden": b"x",
    }
    for name, raw in foreign.items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(raw)
    (bundle / ".venv/bin/python").chmod(0o755)
    for seed in (43, 44):
        assert compile_recipe(recipe, "--set", f"train.seed={seed}") == 0
        now = snapshot(bundle)
        assert {name: now[name] for name in foreign} == foreign
        assert set(now) >= USUAL
    assert os.access(bundle / ".venv/bin/python", os.X_OK)


def test_foreign_links_and_empty_folders_survive_recompiles(recipe: Path) -> None:
    compile_recipe(recipe)
    bundle, scratch = recipe.parent / "bundle", recipe.parent / "scratch"
    scratch.mkdir()
    (scratch / "model.safetensors").write_bytes(b"trained for a week")
    (bundle / "run").symlink_to(scratch)  # as is usual where home folders are small
    (bundle / ".venv/lib").mkdir(parents=True)
    (bundle / ".venv/lib64").symlink_to("lib")
    (bundle / "dangling").symlink_to("nowhere")
    (bundle / "logs").mkdir()
    assert compile_recipe(recipe, "--set", "train.seed=43") == 0
    assert (scratch / "model.safetensors").read_bytes() == b"trained for a week"
    kept = {name: (bundle / name).is_symlink() for name in ("run", ".venv/lib64", "dangling")}
    assert kept == {"run": True, ".venv/lib64": True, "dangling": True}
    assert (bundle / "run" / "model.safetensors").is_file()
    assert (bundle / "logs").is_dir() and (bundle / ".venv/lib").is_dir()


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_a_folder_that_is_no_bundle_is_refused_and_kept(
    words: tuple[str, ...], recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = recipe.parent / "bundle" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    assert compile_recipe(recipe, *words) == 1
    assert codes(capsys) >= {"FTC703" if words else "FTC702"}
    assert snapshot(thesis.parent) == {"thesis.tex": b"years of work"}
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


def test_a_file_in_the_way_is_refused_and_kept(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "bundle").write_text("a file")
    for words in ((), ("--force",)):
        assert compile_recipe(recipe, *words) == 1
        assert codes(capsys) >= {"FTC702"}
        assert (recipe.parent / "bundle").read_text() == "a file"
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


def test_an_empty_folder_is_taken(recipe: Path) -> None:
    (recipe.parent / "bundle").mkdir()
    assert compile_recipe(recipe) == 0


def test_a_link_to_a_folder_is_followed_and_kept(recipe: Path) -> None:
    real = recipe.parent / "scratch" / "place"
    real.mkdir(parents=True)
    (recipe.parent / "bundle").symlink_to(real)
    for seed in (1, 2):
        assert compile_recipe(recipe, "--set", f"train.seed={seed}") == 0
        assert (recipe.parent / "bundle").is_symlink()
        assert set(snapshot(real)) >= USUAL
        (real / "notes.txt").write_text("mine")
    assert (real / "notes.txt").read_text() == "mine"
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle", "scratch"}


OUTPUTS: list[tuple[str, ...]] = [
    (".",),
    ("..",),
    ("/",),
    ("file/x",),
    ("file/x/y",),
    ("tiny/../made",),
    ("made/",),
    ("deep/er/made",),
    ("",),
]
OUTPUTS += [(".", "--force"), ("..", "--force"), ("x" * 300,), ("--force",), (".made",), ("made.new",)]


@pytest.mark.parametrize("words", OUTPUTS, ids=lambda words: " ".join(words)[:20])
def test_any_output_folder_is_taken_or_refused(
    words: tuple[str, ...], recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = recipe.parent / "here"
    here.mkdir()
    (here / "file").write_text("mine")
    shutil.copytree(TINY, recipe.parent / "far" / "tiny")
    (here / "tiny").symlink_to(recipe.parent / "far" / "tiny")  # so `tiny/..` is another place than it looks
    monkeypatch.chdir(here)
    with pytest.raises(SystemExit) as stop:
        main(["compile", str(recipe), "--gpus", "1xCPU", f"--output={words[0]}", *words[1:]])
    said = capsys.readouterr().err
    assert stop.value.code in (0, 1, 2), said
    assert "Traceback" not in said
    assert recipe.read_text() == RECIPE and (here / "file").read_text() == "mine"
    assert (recipe.parent / "tiny").is_symlink() and (here / "tiny").is_symlink()
    if stop.value.code == 0:
        assert set(snapshot(Path(words[0]))) >= USUAL


# --- Interrupted -------------------------------------------------------------------------------------------------


def test_a_swap_cut_short_before_the_new_folder_is_finished(recipe: Path) -> None:
    compile_recipe(recipe)
    bundle, old = recipe.parent / "bundle", recipe.parent / ".bundle.old"
    (bundle / "run").mkdir()
    (bundle / "run" / "log.txt").write_text("a run")
    bundle.rename(old)
    shutil.copytree(old, recipe.parent / ".bundle.new", ignore=shutil.ignore_patterns("run", "MANIFEST*"))
    assert compile_recipe(recipe, "--set", "train.seed=43") == 0
    assert (bundle / "run" / "log.txt").read_text() == "a run"
    assert set(snapshot(bundle)) >= USUAL
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


def test_a_swap_cut_short_after_the_new_folder_is_finished(recipe: Path) -> None:
    compile_recipe(recipe)
    bundle, old = recipe.parent / "bundle", recipe.parent / ".bundle.old"
    shutil.copytree(bundle, old)
    for name in ("run/log.txt", "run/model/weights", "notes.txt"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text("kept")
    (bundle / "notes.txt").write_text("newer")  # already brought back, or written since
    assert compile_recipe(recipe) == 0
    assert (bundle / "run/log.txt").read_text() == (bundle / "run/model/weights").read_text() == "kept"
    assert (bundle / "notes.txt").read_text() == "newer"
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}


def test_a_kill_at_any_moment_loses_nothing(recipe: Path) -> None:
    """Kills compiles with SIGKILL, later each time; whatever is left, the next compile mends it."""
    compile_recipe(recipe)
    bundle = recipe.parent / "bundle"
    for number in range(200):
        (bundle / f"run/{number % 10}").mkdir(parents=True, exist_ok=True)
        (bundle / f"run/{number % 10}/{number}").write_text("kept")
    words = ["compile", str(recipe), "--gpus", "1xCPU", "-o", str(bundle), "--set"]
    for attempt in range(6):
        command = [sys.executable, "-m", "tests.test_write", *words, f"train.seed={100 + attempt}"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert run.stdout is not None and run.stdout.readline() == b"ready\n"
        time.sleep(0.004 * attempt)
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
    assert compile_recipe(recipe) == 0
    assert len(list(bundle.glob("run/*/*"))) == 200
    assert names_beside(recipe) == {"tiny", "recipe.toml", "bundle"}
    assert compile_recipe(recipe, "--check") == 0


# --- Data --------------------------------------------------------------------------------------------------------


def with_sources(recipe: Path, *sources: str) -> None:
    tables = "".join(f'[[data.train]]\nsource = "{s}"\nformat = "chat"\n' for s in sources)
    text = RECIPE.replace('[[data.train]]\nsource = "tiny/data/chat.jsonl"\nformat = "chat"\n', tables)
    recipe.write_text(text, encoding="utf-8")


def write_rows(recipe: Path, name: str, count: int) -> Path:
    path = recipe.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ROW * count, encoding="utf-8")
    return path


def test_data_over_a_mebibyte_travels_only_when_asked(recipe: Path) -> None:
    big = write_rows(recipe, "big.jsonl", 2**20 // len(ROW) + 1)
    with_sources(recipe, "big.jsonl")
    bundle = recipe.parent / "bundle"
    assert compile_recipe(recipe) == 0
    assert not list(bundle.rglob("big.jsonl"))
    assert 'LARGE_DATA / "big.jsonl"' in (bundle / "train.py").read_text()
    [entry] = json.loads((bundle / "resolved.json").read_text())["data"]
    assert entry["in_bundle"] is None and entry["bytes"] == big.stat().st_size
    assert compile_recipe(recipe, "--with-data") == 0
    assert (bundle / "data/big.jsonl").read_bytes() == big.read_bytes()
    assert compile_recipe(recipe, "--with-data", "--check") == 0


def test_data_of_exactly_a_mebibyte_travels(recipe: Path) -> None:
    path = write_rows(recipe, "edge.jsonl", 100)
    path.write_bytes(path.read_bytes() + b" " * (2**20 - path.stat().st_size))
    with_sources(recipe, "edge.jsonl")
    assert compile_recipe(recipe) == 0
    assert (recipe.parent / "bundle/data/edge.jsonl").stat().st_size == 2**20


@pytest.mark.parametrize(
    "places",
    [
        ("a/rows.jsonl", "b/rows.jsonl"),
        ("a/rows.jsonl", "b/rows.jsonl", "c/a/rows.jsonl", "a/b/rows.jsonl"),
        ("rows.jsonl", "a/rows.jsonl"),
        ("a/rows.jsonl", "rows.jsonl"),
        ("a/rows.jsonl", "b/a/rows.jsonl", "b/rows.jsonl", "rows.jsonl"),
        ("a/deep.jsonl", "rows.jsonl/deep.jsonl", "b/rows.jsonl"),  # a folder has the name of a file
        ("a/ROWS.jsonl", "b/rows.jsonl"),
    ],
    ids=" ".join,
)
def test_files_with_the_same_name_all_arrive(places: tuple[str, ...], recipe: Path) -> None:
    for count, name in enumerate(places, 1):
        write_rows(recipe, name, count)
    with_sources(recipe, *places)
    assert compile_recipe(recipe) == 0
    bundle = recipe.parent / "bundle"
    entries = {e["path"]: e for e in json.loads((bundle / "resolved.json").read_text())["data"]}
    assert set(entries) == set(places)
    for name, entry in entries.items():
        assert (bundle / entry["in_bundle"]).read_bytes() == (recipe.parent / name).read_bytes(), name
        below = entry["in_bundle"].removeprefix("data/")
        assert f'DATA / "{below}"' in (bundle / "train.py").read_text()
    assert len({entry["in_bundle"].casefold() for entry in entries.values()}) == len(places)


def test_one_file_in_two_sources_arrives_once(recipe: Path) -> None:
    write_rows(recipe, "rows.jsonl", 9)
    with_sources(recipe, "rows.jsonl", "./rows.jsonl")
    assert compile_recipe(recipe) == 0
    assert [p.name for p in (recipe.parent / "bundle/data").iterdir()] == ["rows.jsonl"]


def test_a_model_over_a_mebibyte_is_named_not_carried(recipe: Path) -> None:
    shutil.copytree(TINY / "model", recipe.parent / "model")
    (recipe.parent / "model" / "notes.txt").write_text("x" * 2**20 + "x")
    recipe.write_text(RECIPE.replace("tiny/model", "model"))
    bundle = recipe.parent / "bundle"
    assert compile_recipe(recipe) == 0
    assert not (bundle / "model").exists()
    assert "FTC_MODEL" in (bundle / "train.py").read_text()
    assert compile_recipe(recipe, "--with-data") == 0
    assert (bundle / "model" / "model.safetensors").is_file()


if __name__ == "__main__":
    print("ready", flush=True)  # imports are done: what a kill after this cuts short is the work
    main(sys.argv[1:])
