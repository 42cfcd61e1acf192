"""Compiles every recipe of `recipes/` for its target into `out/`; with --check, says which is not up to date."""

import sys
import tomllib
from pathlib import Path

from ftc.cli import main as ftc

ROOT = Path(__file__).resolve().parent.parent


def run(arguments: list[str]) -> int:
    """Returns ftc's exit code."""
    try:
        ftc(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def main(extra: list[str]) -> int:
    targets = tomllib.loads((ROOT / "recipes" / "targets.toml").read_text(encoding="utf-8"))
    failed = 0
    for name, gpus in targets.items():
        recipe, folder = ROOT / "recipes" / f"{name}.toml", ROOT / "out" / name
        failed += run(["compile", str(recipe), "--gpus", gpus, "-o", str(folder), *extra]) != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
