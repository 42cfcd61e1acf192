"""compile, check and plan start fast: they never import the libraries that the bundle needs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "deepspeed",
    "bitsandbytes",
    "numpy",
    "pandas",
}
PROGRAM = """\
import sys
from ftc.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print(" ".join(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["compile", "recipes/quickstart.toml", "--gpus", "1xCPU"],
        ["check", "recipes/quickstart.toml", "recipes/llama31-8b-full.toml"],
        ["plan", "recipes/llama31-8b-full.toml", "--gpus", "8xH100"],
        ["plan", "recipes/llama31-8b-full.toml"],
    ],
    ids=" ".join,
)
def test_no_heavy_library_is_imported(words: list[str], tmp_path: Path) -> None:
    words = [*words, "-o", str(tmp_path / "bundle")] if words[0] == "compile" else words
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stderr.splitlines()[-1].split())
    assert not imported & HEAVY


@pytest.mark.slow
def test_the_wheel_and_the_sdist_hold_templates_and_facts(tmp_path: Path) -> None:
    import tarfile
    import zipfile

    pytest.importorskip("uv")
    subprocess.run(
        [sys.executable, "-m", "uv", "build", "-o", str(tmp_path), str(ROOT)], check=True, capture_output=True
    )
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        sdist = archive.getnames()
    needed = [path.relative_to(ROOT / "src") for path in (ROOT / "src" / "ftc").rglob("*") if path.is_file()]
    needed = [path for path in needed if "__pycache__" not in path.parts]
    assert any(path.suffix == ".jinja" for path in needed) and any(path.name == "lock.json" for path in needed)
    for path in needed:
        assert path.as_posix() in wheel, path
        assert any(name.endswith(f"src/{path.as_posix()}") for name in sdist), path
