"""The data of a stack agree with each other, with the recipe language and with the installed libraries."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from packaging.markers import Marker
from pydantic import BaseModel

from ftc.facts.lock import Lock, LockedRequirement, closure, read_lock, requirements_text
from ftc.recipe.tables import Recipe

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "ftc" / "facts" / "data" / "stacks" / "2026.11"
DEPRECATED = {("SFTConfig", "use_liger_kernel"), ("from_pretrained", "torch_dtype")}  # old names that still work
TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
FEATURES = ("deepspeed", "bitsandbytes", *TRACKERS)
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
PYTHONS = ("3.11", "3.12", "3.13")


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def surfaces() -> Mapping[str, Mapping[str, Any]]:
    api = read("api.json")
    model = api["functions"]["AutoModelForCausalLM.from_pretrained"]["fields"]
    return {**{name: c["fields"] for name, c in api["classes"].items()}, "from_pretrained": model}


@pytest.fixture(scope="module")
def lock() -> Lock:
    return read_lock((FOLDER / "lock.json").read_text(encoding="utf-8"))


def renamed() -> Iterator[tuple[str, str, str | None, str]]:
    for name, old in read("renamed.json").items():
        yield from ((name, argument, new["use"], new["why"]) for argument, new in old.items())


def owned() -> Iterator[tuple[str, str, str | None]]:
    for name, arguments in read("owned.json").items():
        yield from ((name, argument, key) for argument, key in arguments.items())


def test_old_names_are_gone_and_new_ones_exist(surfaces: Mapping[str, Mapping[str, Any]]) -> None:
    for name, old, use, why in renamed():
        assert (old in surfaces[name]) == ((name, old) in DEPRECATED), f"{name}: {old}"
        assert why, f"{name}: {old} has no reason"
        assert use is None or use.startswith("[") or use in surfaces[name] or use in surfaces["SFTTrainer"], (
            f"{name}: {old} -> {use}"
        )


def test_owned_arguments_exist(surfaces: Mapping[str, Mapping[str, Any]]) -> None:
    for name, argument, _key in owned():
        assert argument in surfaces[name], f"{name}: {argument}"


def test_recipe_keys_to_write_instead_exist() -> None:
    """A hint that names a key which the language does not have would lead from one error to the next."""
    hinted = {key for *_, key in owned() if key} | {use for _, _, use, _ in renamed() if use and use.startswith("[")}
    for key in sorted(hinted):
        words = re.findall(r"[\w.]+", key)
        path = [*words[0].split("."), *words[1:]]
        assert has_key(Recipe, path), key


def has_key(table: type[BaseModel], path: list[str]) -> bool:
    field = table.model_fields.get(path[0])
    if field is None:
        return False
    return len(path) == 1 or any(has_key(inner, path[1:]) for inner in tables_of(field.annotation))


def tables_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from tables_of(inner)


def test_every_argument_has_a_type_that_a_recipe_can_be_held_against(
    surfaces: Mapping[str, Mapping[str, Any]],
) -> None:
    kinds = {"bool", "int", "float", "str", "list", "dict", "null", "any"}
    for name, fields in surfaces.items():
        for argument, field in fields.items():
            accepted = field["accepts"]
            assert accepted and set(accepted) <= kinds and accepted == sorted(accepted), f"{name}: {argument}"
            assert "inspect._empty" not in field["type"], f"{name}: {argument}"


def test_deepspeed_and_accelerate_keys_are_those_that_are_read() -> None:
    api = read("api.json")
    assert {"zero_optimization", "bf16", "aio", "activation_checkpointing"} <= set(api["deepspeed"]["top"])
    assert not {"train", "mean", "enabled", "params"} & set(api["deepspeed"]["top"])
    assert "stage3_gather_16bit_weights_on_model_save" in api["deepspeed"]["zero_optimization"]
    assert "fsdp_transformer_layer_cls_to_wrap" in api["accelerate"]["fsdp_config"]
    assert "fsdp_transformer_cls_to_wrap" not in api["accelerate"]["fsdp_config"]  # accelerate ignores it silently


def test_the_lock_holds_the_pins(lock: Lock) -> None:
    locked = {package.name: package.version for package in lock.packages.values()}
    versions = read("api.json")["versions"]
    assert {name: locked[name] for name in versions} == versions
    assert {r.name: r.version for r in closure(lock, ("base",))}["torch"] == "2.13.0"


def test_every_line_has_hashes_and_no_address(lock: Lock) -> None:
    requirements = closure(lock, ("base", *FEATURES))
    assert all(r.hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in r.hashes) for r in requirements)
    text = requirements_text(requirements)
    assert text.count("==") - text.count("== '") == len(requirements)
    assert "//" not in text and "//" not in (FOLDER / "lock.json").read_text(encoding="utf-8")


def test_a_closure_is_closed(lock: Lock) -> None:
    for features in (("base",), ("base", "deepspeed"), ("base", *FEATURES)):
        found = {f"{r.name}=={r.version}" for r in closure(lock, features)}
        for key in found:
            assert {edge.to for edge in lock.packages[key].dependencies} <= found, key


def test_features_add_what_they_name(lock: Lock) -> None:
    base = {r.name for r in closure(lock, ("base",))}
    for feature in FEATURES:
        assert feature in {r.name for r in closure(lock, ("base", feature))} - base


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES, ids="-".join)
def test_each_machine_gets_one_version_of_each_package(lock: Lock, python: str, machine: tuple[str, str]) -> None:
    chosen = [r for r in closure(lock, ("base", *FEATURES)) if applies(r, python, *machine)]
    names = [r.name for r in chosen]
    assert len(names) == len(set(names))
    assert ("nvidia-cudnn-cu13" in names) == (machine[0] == "linux"), "a GPU machine gets torch's CUDA libraries"
    for requirement in chosen:
        package = lock.packages[f"{requirement.name}=={requirement.version}"]
        needed = [e.to.partition("==")[0] for e in package.dependencies if holds(e.marker, python, *machine)]
        assert set(needed) <= set(names), requirement.name


def applies(requirement: LockedRequirement, python: str, system: str, processor: str) -> bool:
    return holds(requirement.marker, python, system, processor)


def holds(marker: str | None, python: str, system: str, processor: str) -> bool:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.7",
        "sys_platform": system,
        "platform_system": system.capitalize(),
        "platform_machine": processor,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return marker is None or Marker(marker).evaluate(environment)


def test_reading_and_closing_is_quick() -> None:
    """Every compile does it; the best of some tries, since other processes share the machine."""
    text = (FOLDER / "lock.json").read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    tries = []
    for _ in range(10):
        start = time.perf_counter()
        closure(read_lock(text), ("base", *FEATURES))
        tries.append(time.perf_counter() - start)
    assert min(tries) < 0.015


@pytest.mark.slow
def test_the_surface_is_that_of_the_installed_libraries() -> None:
    pytest.importorskip("trl")
    command = [sys.executable, str(ROOT / "scripts" / "extract_api.py"), "--check", str(FOLDER / "api.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"])
def test_uv_resolves_every_feature(lock: Lock, tmp_path: Path, python: str, platform: str) -> None:
    """Unlike pip, uv reads only the metadata of each wheel: no gigabytes, and Pythons that are not installed."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    (tmp_path / "requirements.txt").write_text(requirements_text(closure(lock, ("base", *FEATURES))))
    place = ["--target", "t", "--python-version", python, "--python-platform", platform]
    done = subprocess.run(
        [uv, "pip", "install", "--dry-run", "--require-hashes", *place, "-r", "requirements.txt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=without_downloads(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "+ torch==2.13.0" in done.stderr


def without_downloads() -> dict[str, str]:
    return {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "DS_BUILD_OPS": "0"}
