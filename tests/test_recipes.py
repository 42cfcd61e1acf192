"""The shipped recipes compile to the bundles in `out/`, byte for byte, from anywhere."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGETS: dict[str, str] = tomllib.loads((ROOT / "recipes" / "targets.toml").read_text(encoding="utf-8"))
FTC = [sys.executable, "-c", "from ftc.start import run; run()"]


def ftc(*words: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FTC, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_every_recipe_has_a_target_and_a_bundle() -> None:
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.toml")} - {"targets"}
    assert recipes == set(TARGETS)
    assert {path.name for path in (ROOT / "out").iterdir()} == recipes
    assert len(recipes) >= 10


@pytest.mark.parametrize("name", TARGETS)
def test_the_committed_bundle_is_up_to_date(name: str) -> None:
    done = ftc("compile", f"recipes/{name}.toml", "--gpus", TARGETS[name], "-o", f"out/{name}", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TARGETS)
def test_the_committed_bundle_holds_nothing_else(name: str) -> None:
    folder = ROOT / "out" / name
    tracked = subprocess.run(["git", "ls-files", "-z", "."], cwd=folder, capture_output=True, text=True, check=False)
    if tracked.returncode != 0 or not tracked.stdout:
        pytest.skip("not a git checkout")
    manifest = (folder / "MANIFEST.sha256").read_text().splitlines()
    listed = {line.split("  ", 1)[1] for line in manifest} | {"MANIFEST.sha256"}
    assert set(tracked.stdout.strip("\0").split("\0")) == listed


@pytest.mark.parametrize("name", ["quickstart", "llama31-8b-qlora", "llama33-70b-full"])
def test_the_same_bytes_everywhere(name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    strange = {
        "PATH": os.environ["PATH"],
        "HOME": str(elsewhere),
        "TZ": "Pacific/Chatham",
        "LC_ALL": "tr_TR.UTF-8",
        "LANG": "C",
        "PYTHONHASHSEED": "4711",
        "COLUMNS": "20",
        "CUDA_VISIBLE_DEVICES": "3",
        "USER": "somebody",
    }
    words = ["compile", str(ROOT / "recipes" / f"{name}.toml"), "--gpus", TARGETS[name], "-o", str(elsewhere / "b")]
    done = ftc(*words, cwd=elsewhere, env=strange)
    assert done.returncode == 0, done.stderr
    same = subprocess.run(
        ["diff", "-r", str(ROOT / "out" / name), str(elsewhere / "b"), "-x", "run", "-x", ".venv", "-x", "__pycache__"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert same.returncode == 0, same.stdout


def test_no_bundle_names_a_place_or_a_time() -> None:
    for name in TARGETS:
        for line in (ROOT / "out" / name / "MANIFEST.sha256").read_text().splitlines():
            path = ROOT / "out" / name / line.split("  ", 1)[1]
            raw = path.read_bytes()
            assert str(ROOT).encode() not in raw, path
            assert b"import ftc" not in raw, path
