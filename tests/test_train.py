"""Bundles really train: on a CPU, from their own launch.sh, in an environment without ftc."""

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training import compile_bundle, environment, launch, make_python, train, write_recipe

pytest.importorskip("trl")
psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.slow

LORA = '[adapter]\nkind = "lora"\nr = 8\n'
MERGE = "[output]\nmerge = true\n"
QUESTION = [{"role": "user", "content": "What does the red dragon kite cost?"}]

STRATEGIES = {
    "single": ("1xCPU", ""),
    "ddp": ("2xCPU", 'strategy = "ddp"'),
    "fsdp2": ("2xCPU", 'strategy = "fsdp2"'),
    "zero1": ("2xCPU", 'strategy = "zero1"'),
    "zero2": ("2xCPU", 'strategy = "zero2"'),
    "zero3": ("2xCPU", 'strategy = "zero3"'),
    "zero3 with optimizer offload": ("2xCPU", 'strategy = "zero3"\noffload = "optimizer"'),
    "fsdp2 with checkpointing": ("2xCPU", 'strategy = "fsdp2"\ngradient_checkpointing = true'),
}
ADAPTED = {
    "lora": ("1xCPU", LORA + MERGE),
    "lora on 4 bits": ("1xCPU", LORA + MERGE + "[quantization]\nbits = 4\n"),
    "lora on 8 bits": ("1xCPU", LORA + "[quantization]\nbits = 8\n"),
    "dora": ("1xCPU", LORA.replace('"lora"', '"dora"') + MERGE),
    "rslora": ("1xCPU", LORA.replace('"lora"', '"rslora"')),
}
SHARDED = {
    "lora under fsdp2": ("2xCPU", 'strategy = "fsdp2"\n' + LORA),
    "lora under zero3 with checkpointing": ("2xCPU", 'strategy = "zero3"\ngradient_checkpointing = true\n' + LORA),
    "lora on 4 bits under fsdp2": ("2xCPU", 'strategy = "fsdp2"\n' + LORA + "[quantization]\nbits = 4\n"),
}


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_python(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="session")
def single(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of the plain run that the others are held against."""
    return train(compile_bundle(write_recipe(tmp_path_factory.mktemp("single")), "1xCPU"), python)


@pytest.fixture(scope="session")
def lora(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    recipe = write_recipe(tmp_path_factory.mktemp("lora"), tables=LORA)
    return train(compile_bundle(recipe, "1xCPU"), python)


def falls(report: dict[str, Any], by: float = 0.2) -> bool:
    return bool(report["losses"][-1] < report["losses"][0] - by)


def answer(folder: Path, *, adapter: bool = False) -> str:
    """Loads the result with plain library calls and lets it answer."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = (AutoPeftModelForCausalLM if adapter else AutoModelForCausalLM).from_pretrained(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=24, do_sample=False)
    return str(tokenizer.decode(out[0][ids["input_ids"].shape[1] :]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_ends_with_the_same_loss(
    name: str, python: Path, single: dict[str, Any], tmp_path: Path
) -> None:
    gpus, plan = STRATEGIES[name]
    bundle = compile_bundle(write_recipe(tmp_path, tables=plan), gpus)
    report = single if name == "single" else train(bundle, python)
    assert falls(report, by=2)
    assert report["losses"] == pytest.approx(single["losses"], rel=1e-4)
    assert report["train_loss"] == pytest.approx(single["train_loss"], rel=1e-4)
    if name != "single":
        assert answer(bundle / "run" / "model")


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_train_load_and_merge(name: str, python: Path, tmp_path: Path) -> None:
    gpus, tables = ADAPTED[name]
    bundle = compile_bundle(write_recipe(tmp_path, tables=tables), gpus)
    assert falls(train(bundle, python))
    assert answer(bundle / "run" / "model", adapter=True)
    if MERGE in tables:
        assert answer(bundle / "run" / "merged")


@pytest.mark.parametrize("name", SHARDED)
def test_sharded_adapters_end_with_the_same_loss(name: str, python: Path, lora: dict[str, Any], tmp_path: Path) -> None:
    gpus, tables = SHARDED[name]
    bundle = compile_bundle(write_recipe(tmp_path, tables=tables), gpus)
    report = train(bundle, python)
    assert report["losses"] == pytest.approx(lora["losses"], rel=1e-2 if "4 bits" in name else 1e-4)
    assert answer(bundle / "run" / "model", adapter=True)


def test_the_quickstart_learns_the_prices(python: Path, tmp_path: Path) -> None:
    recipe = Path(__file__).parent.parent / "recipes" / "quickstart.toml"
    shutil.copy(recipe, tmp_path / "recipe.toml")
    (tmp_path / "tiny").symlink_to(recipe.parent / "tiny")
    bundle = compile_bundle(tmp_path / "recipe.toml", "1xCPU")
    report = train(bundle, python)
    assert report["losses"][0] > 6.0
    assert report["losses"][-1] < 1.0
    assert "kite" in answer(bundle / "run" / "model")


def test_new_tokens_are_trained_and_survive_the_merge(python: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = write_recipe(tmp_path, tables=LORA + MERGE)
    bundle = compile_bundle(recipe, "1xCPU", "--set", 'model.new_tokens=["<|kite|>", "<|price|>"]')
    assert falls(train(bundle, python))
    merged = AutoModelForCausalLM.from_pretrained(str(bundle / "run" / "merged"))
    tokenizer = AutoTokenizer.from_pretrained(str(bundle / "run" / "merged"))
    base = AutoModelForCausalLM.from_pretrained(str(bundle / "model"))
    token = tokenizer.convert_tokens_to_ids("<|kite|>")
    assert tokenizer.tokenize("a<|price|>") == ["a", "<|price|>"]
    embedding, head = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert torch.equal(embedding, head), "the head must stay the embedding's twin"
    assert not torch.equal(embedding[token], base.get_input_embeddings().weight[token]), "the new row was not trained"


def test_more_new_tokens_than_spare_rows_resize_the_model(python: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = json.dumps([f"<|t{i}|>" for i in range(200)])
    bundle = compile_bundle(
        write_recipe(tmp_path), "2xCPU", "--set", f"model.new_tokens={tokens}", "--set", "plan.strategy=zero3"
    )
    assert falls(train(bundle, python))
    model = AutoModelForCausalLM.from_pretrained(str(bundle / "run" / "model"))
    tokenizer = AutoTokenizer.from_pretrained(str(bundle / "run" / "model"))
    assert len(tokenizer) <= model.get_input_embeddings().num_embeddings


@pytest.mark.parametrize(("gpus", "plan"), [("1xCPU", ""), ("2xCPU", 'strategy = "fsdp2"')])
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(gpus: str, plan: str, python: Path, tmp_path: Path) -> None:
    tables = plan + "\n[checkpoint]\nevery = 5\n"
    whole = compile_bundle(write_recipe(tmp_path / "whole", steps=40, tables=tables), gpus)
    unbroken = train(whole, python)
    broken = compile_bundle(write_recipe(tmp_path / "broken", steps=40, tables=tables), gpus)
    kill_after_checkpoint(broken, python)
    assert not (broken / "run" / "run_report.json").exists()
    half = broken / "run" / "checkpoint-39"  # as if the kill had come while a checkpoint was written
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    report = train(broken, python)
    assert report["losses"] == pytest.approx(unbroken["losses"], rel=1e-6)
    again = launch(broken, python)
    assert again.returncode == 0
    assert "holds a finished run" in again.stdout, "a finished run must not be trained on"


def kill_after_checkpoint(bundle: Path, python: Path) -> None:
    """Starts the run and kills all of it with SIGKILL once a checkpoint is whole."""
    run = subprocess.Popen(
        ["bash", "./launch.sh"],
        cwd=bundle,
        env=environment(python),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not list(bundle.glob("run/checkpoint-*/complete")):
        assert time.monotonic() < deadline and run.poll() is None, "no checkpoint before the end"
        time.sleep(0.05)
    alive = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    for process in alive:  # the launcher starts its workers in sessions of their own
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    run.wait()
    psutil.wait_procs(alive, timeout=30)


@pytest.mark.parametrize("strategy", ["fsdp2", "ddp", "zero2"])
def test_a_run_that_is_not_the_planned_one_stops(strategy: str, python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path, tables=f'strategy = "{strategy}"'), "2xCPU")
    alone = subprocess.run(
        [python, "train.py"], cwd=bundle, env=environment(python), capture_output=True, text=True, check=False
    )
    assert alone.returncode != 0
    assert not (bundle / "run" / "model").exists()


def test_an_fsdp_config_that_becomes_data_parallel_stops(python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path, tables='strategy = "fsdp2"'), "2xCPU")
    (bundle / "cpu" / "sitecustomize.py").write_text("")  # without it accelerate says nothing and does not shard
    done = launch(bundle, python)
    assert done.returncode != 0
    assert "planned 2 x FSDP, found" in done.stdout + done.stderr
    assert not (bundle / "run" / "model").exists()


def test_another_version_than_the_pinned_one_stops(python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path), "1xCPU")
    text = (bundle / "requirements.txt").read_text()
    (bundle / "requirements.txt").write_text(text.replace("trl==1.16.0", "trl==1.15.0"))
    done = launch(bundle, python)
    assert done.returncode != 0
    assert "trl 1.16.0, planned 1.15.0" in done.stdout
    assert not (bundle / "run").exists()
