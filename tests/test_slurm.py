"""submit.sbatch before a real SLURM, where one is installed and can be brought up."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RIG = ROOT.parent / "shared" / "tools" / "slurm"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (RIG / "up.sh").exists() or not shutil.which("slurmctld"), reason="no SLURM to bring up"),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    done = subprocess.run(
        ["bash", RIG / "up.sh"],
        env={**os.environ, "NODES": "2", "GPUS": "8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"SLURM does not come up here: {done.stderr[-300:]}")
    shown = subprocess.check_output(["bash", "-c", ". /tmp/slurm-rig/env.sh && env"], text=True)
    yield dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    subprocess.run(["bash", RIG / "down.sh"], check=False, capture_output=True)


@pytest.mark.parametrize("name", ["quickstart", "llama31-8b-full", "llama33-70b-full"])
def test_sbatch_takes_the_script(name: str, slurm: dict[str, str]) -> None:
    command = ["sbatch", "--test-only", "--mem=0", "submit.sbatch"]
    done = subprocess.run(command, cwd=ROOT / "out" / name, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
