"""How long `ftc compile` takes as a whole process, against importing its four libraries. Prints the ratio.

    python benchmarks/startup.py [RUNS]

Bytecode is compiled first, as it is for an installed package. The two are timed in turn, so that load hits both.
"""

import compileall
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = "import pydantic, cyclopts, rich.console, jinja2"


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def main(runs: int) -> None:
    compileall.compile_dir(ROOT / "src", quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        recipe = ["recipes/llama31-8b-full.toml", "--gpus", "8xH100", "-o", str(Path(folder) / "bundle")]
        compile_command = [str(Path(sys.executable).parent / "ftc"), "compile", *recipe]
        pairs = [(seconds(compile_command), seconds([sys.executable, "-c", LIBRARIES])) for _ in range(runs)]
    compiled, imported = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"ftc compile {compiled * 1e3:.0f} ms, imports {imported * 1e3:.0f} ms, ratio {compiled / imported:.2f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"memory: at most {peak:.0f} MB in either")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
