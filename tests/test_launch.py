"""launch.sh builds its own environment from the hashed requirements, with uv or with pip, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import compile_bundle, write_recipe

pytestmark = pytest.mark.slow
SMALL = ("packaging", "filelock", "PyYAML", "pyyaml")


def only_small(text: str) -> str:
    """Returns the requirements of a few small packages with their hashes: the real lock would fetch gigabytes."""
    entries = text.split("\n")
    kept, keeping = [], False
    for line in entries:
        if not line.startswith((" ", "#")):
            keeping = line.split("==")[0] in SMALL
        if keeping:
            kept.append(line)
    return "\n".join(kept) + "\n"


def setup(bundle: Path, path: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": path}
    env.pop("FTC_PYTHON", None)
    command = ["bash", "./launch.sh", "--setup"]
    return subprocess.run(command, cwd=bundle, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_the_environment_is_built_from_the_lock(installer: str, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path), "1xCPU")
    requirements = bundle / "requirements.txt"
    requirements.write_text(only_small(requirements.read_text()))
    assert "--hash=sha256:" in requirements.read_text()
    with_uv = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    plain = tmp_path / "plain"  # a PATH with Python and without uv
    plain.mkdir()
    (plain / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    done = setup(bundle, with_uv if installer == "uv" else f"{plain}:/usr/bin:/bin")
    if installer == "uv" and not (Path(sys.executable).parent / "uv").exists():
        pytest.skip("no uv here")
    assert "building .venv" in done.stdout
    assert (bundle / ".venv" / "complete").exists(), done.stderr
    assert "FAULT" in done.stdout and done.returncode != 0, "most of the lock was left out, which preflight must see"
    again = setup(bundle, with_uv)
    assert "building .venv" not in again.stdout


def test_a_package_with_another_hash_is_refused(tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path), "1xCPU")
    requirements = bundle / "requirements.txt"
    text = only_small(requirements.read_text())
    digests = [part.split()[0] for part in text.split("--hash=sha256:")[1:]]
    for digest in digests:
        text = text.replace(digest, "0" * 64)
    requirements.write_text(text)
    done = setup(bundle, f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert done.returncode != 0
    assert not (bundle / ".venv" / "complete").exists()
