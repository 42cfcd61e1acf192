"""Every emitted file goes to its real reader."""

import ast
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftc.facts import load_stack
from tests.training import compile_bundle, write_recipe

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = sorted(path for path in (ROOT / "out").iterdir() if path.is_dir())
VARIANTS = {
    "zero1": ("2xCPU", 'strategy = "zero1"\n[track]\nto = ["wandb", "mlflow"]\nproject = "p"\n'),
    "zero3 with offload": ("2xCPU", 'strategy = "zero3"\noffload = "params"\n'),
    "fsdp2 in 4 bits": (
        "2xCPU",
        'strategy = "fsdp2"\n[adapter]\nkind = "lora"\n[quantization]\nbits = 4\n[output]\nmerge = true\n',
    ),
    "new tokens in 8 bits": ("1xCPU", '[adapter]\nkind = "dora"\n[quantization]\nbits = 8\n[output]\nmerge = true\n'),
    "ddp on GPUs": ("4xA100", 'strategy = "ddp"\n[train.extra.lr_scheduler_kwargs]\nnum_cycles = 2\n'),
    "fsdp2 over nodes": ("2x2xH100", 'strategy = "fsdp2"\n'),
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The committed bundles, and some that show the rest of the language."""
    made = []
    for name, (gpus, tables) in VARIANTS.items():
        recipe = write_recipe(tmp_path_factory.mktemp("variant"), tables=tables)
        words = ["--set", 'model.new_tokens=["<|x|>"]'] if "new tokens" in name else []
        words += ["--set", "train.global_batch=16", "--set", 'data.system_prompt="it\'s {{ }} $HOME"']
        made.append(compile_bundle(recipe, gpus, *words))
    return [*BUNDLES, *made]


def run(*words: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


def test_shell_scripts_parse_and_are_clean(bundles: list[Path]) -> None:
    for bundle in bundles:
        for name in ("launch.sh", "submit.sbatch"):
            run("bash", "-n", bundle / name)
            if shutil.which("shellcheck"):
                run("shellcheck", bundle / name)


def test_python_files_are_formatted(bundles: list[Path]) -> None:
    files = [path for bundle in bundles for path in bundle.glob("*.py")]
    run(sys.executable, "-m", "ruff", "format", "--check", "--isolated", *files)


def test_train_py_passes_a_type_checker(bundles: list[Path]) -> None:
    for bundle in bundles:
        command = ["--ignore-missing-imports", "--follow-imports=skip", "--disallow-untyped-defs", "--no-incremental"]
        run(sys.executable, "-m", "mypy", *command, "--allow-subclassing-any", bundle / "train.py")


def test_json_toml_yaml_and_manifest(bundles: list[Path]) -> None:
    for bundle in bundles:
        for path in bundle.glob("*.json"):
            json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        tomllib.loads((bundle / "recipe.toml").read_text(encoding="utf-8"))
        yaml.safe_load((bundle / "accelerate.yaml").read_text(encoding="utf-8"))
        run("sha256sum", "--check", "--quiet", "MANIFEST.sha256", cwd=bundle)


def test_sbatch_directives_are_literal(bundles: list[Path]) -> None:
    for bundle in bundles:
        lines = (bundle / "submit.sbatch").read_text().splitlines()
        directives = [line for line in lines if line.startswith("#SBATCH")]
        first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
        assert directives and all("$" not in line for line in directives)
        assert all(lines.index(line) < first_command for line in directives), "a later directive is ignored"


@pytest.mark.slow
def test_accelerate_reads_its_config(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    surface = load_stack("2026.11")
    assert surface is not None
    for bundle in bundles:
        monkeypatch.chdir(bundle)
        config = config_args.load_config_from_file("accelerate.yaml")
        plain = yaml.safe_load((bundle / "accelerate.yaml").read_text())
        assert config.num_processes == plain["num_processes"]
        assert set(plain) <= set(surface.accelerate["top"])
        for table in ("fsdp_config", "deepspeed_config"):  # accelerate itself accepts anything in there
            assert set(plain.get(table, {})) <= set(surface.accelerate[table])


@pytest.mark.slow
def test_deepspeed_reads_its_config(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    zero = pytest.importorskip("deepspeed.runtime.zero.config")
    surface = load_stack("2026.11")
    assert surface is not None
    found = [bundle / "deepspeed.json" for bundle in bundles if (bundle / "deepspeed.json").exists()]
    assert found
    for path in found:
        config = json.loads(path.read_text())
        assert set(config) <= set(surface.deepspeed["top"])
        read = zero.DeepSpeedZeroConfig(**config["zero_optimization"])
        assert read.stage == config["zero_optimization"]["stage"]


@pytest.mark.slow
def test_every_argument_exists_in_the_installed_class(bundles: list[Path]) -> None:
    pytest.importorskip("trl")
    from transformers import PreTrainedModel

    init = ("SFTConfig", "trl"), ("SFTTrainer", "trl"), ("LoraConfig", "peft"), ("BitsAndBytesConfig", "transformers")
    known = {n: set(inspect.signature(getattr(importlib.import_module(m), n)).parameters) for n, m in init}
    source = inspect.getsource(PreTrainedModel.from_pretrained)
    for bundle in bundles:
        for name, argument in keywords(bundle / "train.py"):
            if name in known:
                assert argument in known[name], f"{bundle.name}: {name} has no {argument}"
            elif name == "model_init_kwargs":
                assert f'"{argument}"' in source or f"{argument}:" in source, f"{bundle.name}: {argument}"


def keywords(path: Path) -> Iterator[tuple[str, str]]:
    """Yields every keyword argument of every call, and every key of model_init_kwargs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for keyword in node.keywords:
            yield str(name), str(keyword.arg)
            if keyword.arg == "model_init_kwargs" and isinstance(keyword.value, ast.Dict):
                yield from (("model_init_kwargs", key.value) for key in constants(keyword.value.keys))


def constants(nodes: list[Any]) -> Iterator[ast.Constant]:
    yield from (node for node in nodes if isinstance(node, ast.Constant))


@pytest.mark.slow
def test_pip_would_install_the_requirements(tmp_path: Path) -> None:
    """The bundle with most features; every feature goes through uv's reader in test_stack_facts.py."""
    venv.create(tmp_path / "empty", with_pip=True)
    for name in ("llama31-70b-qlora",):
        done = subprocess.run(
            [tmp_path / "empty" / "bin" / "pip", "install", "--dry-run", "--require-hashes", "-r", "requirements.txt"],
            cwd=ROOT / "out" / name,
            env={**os.environ, "DS_BUILD_OPS": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Would install" in done.stdout
