"""What the end-to-end tests share: compile a tiny recipe, and run its bundle where ftc is not installed."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

from ftc.cli import main

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "recipes" / "tiny"
LIMIT_SECONDS = 600

RECIPE = """\
name = "tiny"
[model]
base = "tiny/model"
[method]
kind = "sft"
{method}
[data]
max_length = 256
{data}
[[data.train]]
source = "tiny/data/{source}"
format = "{format}"
{row}
[train]
max_steps = {steps}
global_batch = 16
learning_rate = 1e-2
seed = 7
[train.extra]
logging_steps = 1
[plan]
micro_batch = 4
{tables}
"""


def write_recipe(
    folder: Path, *, steps: int = 10, source: str = "chat.jsonl", row_format: str = "chat", **parts: str
) -> Path:
    """Writes a recipe for the tiny model; `method`, `data`, `row` and `tables` are lines put into it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tiny").exists():
        (folder / "tiny").symlink_to(TINY)
    blank = {"method": "", "data": "", "row": "", "tables": ""}
    text = RECIPE.format(**{**blank, **parts}, steps=steps, source=source, format=row_format)
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def compile_bundle(recipe: Path, gpus: str, *words: str) -> Path:
    """Compiles through the command line; returns the bundle's folder."""
    bundle = recipe.parent / "bundle"
    try:
        main(["compile", str(recipe), "--gpus", gpus, "-o", str(bundle), *words])
    except SystemExit as stop:
        assert not stop.code, f"compile ended with {stop.code}"
    return bundle


def make_python(folder: Path) -> Path:
    """Returns the interpreter of an environment that has what this one has, but not ftc."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    place = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    Path(place.strip(), "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    missing = subprocess.run([python, "-c", "import ftc"], capture_output=True, check=False)
    assert missing.returncode != 0, "ftc must not be importable where bundles run"
    return python


def environment(python: Path, **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FTC_", "PYTHONPATH", "ACCELERATE_", "WANDB"))}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"  # ninja, for DeepSpeed's own build
    return {**clean, "PATH": path, "FTC_PYTHON": str(python), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


def launch(bundle: Path, python: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the bundle's own launch.sh."""
    command = ["bash", "./launch.sh"]
    return subprocess.run(
        command,
        cwd=bundle,
        env=environment(python, **more),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def train(bundle: Path, python: Path) -> dict[str, Any]:
    """Runs the bundle to its end; returns its report."""
    done = launch(bundle, python)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    report: dict[str, Any] = json.loads((bundle / "run" / "run_report.json").read_text())
    return report
