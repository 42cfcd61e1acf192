"""Makes the lock of a stack with uv: complete, universal (Python 3.11 to 3.13, Linux and macOS arm64), hashed.

    python scripts/make_lock.py src/ftc/facts/data/stacks/2026.11

Reads the pins from the folder's api.json. No address of a registry is kept, only names, versions and hashes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

BASE = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
PINNED_FEATURES = ("deepspeed", "bitsandbytes")
FREE_FEATURES = ("wandb", "tensorboard", "mlflow", "trackio")
PYTHON_TAGS = re.compile(r"-(py2\.py3-none|py3\d*-none|cp3\d*-abi3|(cp311|cp312|cp313)-(cp311|cp312|cp313|none))-")
PROJECT = """\
[project]
name = "stack"
version = "0"
requires-python = ">=3.11,<3.14"
dependencies = {base}
[project.optional-dependencies]
{features}
[tool.uv]
environments = ["sys_platform == 'linux'", "sys_platform == 'darwin' and platform_machine == 'arm64'"]
"""


def main(folder: Path) -> None:
    versions = json.loads((folder / "api.json").read_text(encoding="utf-8"))["versions"]
    lock = convert(run_uv(versions))
    (folder / "lock.json").write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(lock['packages'])} packages")


def run_uv(versions: dict[str, str]) -> dict[str, Any]:
    """Returns uv's lock of a project that needs the pins."""
    features = {n: [f"{n}=={versions[n]}"] for n in PINNED_FEATURES} | {n: [n] for n in FREE_FEATURES}
    base = [*(f"{n}=={versions[n]}" for n in BASE), "psutil"]
    text = PROJECT.format(
        base=json.dumps(base), features="\n".join(f"{n} = {json.dumps(v)}" for n, v in features.items())
    )
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "pyproject.toml").write_text(text, encoding="utf-8")
        environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "DS_BUILD_OPS": "0"}
        subprocess.run(["uv", "lock", "--project", place], check=True, env=environment)
        return tomllib.loads((Path(place) / "uv.lock").read_text(encoding="utf-8"))


def convert(lock: dict[str, Any]) -> dict[str, Any]:
    """Returns our form of uv's lock."""
    packages = {p["name"]: p for p in lock["package"]}
    root = packages["stack"]
    versions: dict[str, list[str]] = {}
    for package in lock["package"]:
        versions.setdefault(package["name"], []).append(package["version"])
    features = {"base": edges(root["dependencies"], versions)}
    features |= {n: edges(e, versions) for n, e in root["optional-dependencies"].items()}
    locked = {f"{p['name']}=={p['version']}": entry(p, versions) for p in lock["package"] if p["name"] != "stack"}
    return {"requires_python": lock["requires-python"], "features": features, "packages": locked}


def entry(package: dict[str, Any], versions: dict[str, list[str]]) -> dict[str, Any]:
    wheels = [w for w in package.get("wheels", []) if PYTHON_TAGS.search(w["url"])]
    files = [*wheels, *([package["sdist"]] if "sdist" in package else [])]
    extras = {n: edges(e, versions) for n, e in package.get("optional-dependencies", {}).items()}
    return {
        "hashes": sorted({f["hash"] for f in files}),
        "sdist_only": not wheels,
        "dependencies": edges(package.get("dependencies", []), versions),
        **({"extras": extras} if extras else {}),
    }


def edges(dependencies: list[dict[str, Any]], versions: dict[str, list[str]]) -> list[dict[str, Any]]:
    found = []
    for dependency in dependencies:
        version = dependency.get("version") or versions[dependency["name"]][0]
        edge: dict[str, Any] = {"to": f"{dependency['name']}=={version}"}
        if dependency.get("marker"):
            edge["marker"] = dependency["marker"]
        if dependency.get("extra"):
            edge["extras"] = dependency["extra"]
        found.append(edge)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
