"""preflight.py proves on real rows what will be trained, in every format, and stops where it is not as planned."""

import subprocess
from pathlib import Path

import pytest

from tests.training import compile_bundle, environment, make_python, train, write_recipe

pytest.importorskip("trl")
pytestmark = pytest.mark.slow

FORMATS: dict[str, dict[str, str]] = {
    "chat, last answer": {"method": 'loss_on = "completion"'},
    "chat, everything": {"method": 'loss_on = "all"'},
    "chat under a system prompt": {"data": 'system_prompt = "You sell \\"kites\\"."'},
    "sharegpt": {"source": "sharegpt.jsonl", "row_format": "sharegpt"},
    "alpaca": {"source": "alpaca.jsonl", "row_format": "alpaca"},
    "prompt and completion": {"source": "prompt_completion.jsonl", "row_format": "prompt-completion"},
    "csv with other names": {
        "source": "pairs.csv",
        "row_format": "prompt-completion",
        "row": 'columns = { prompt = "question", completion = "answer" }',
    },
    "text": {"source": "text.jsonl", "row_format": "text"},
    "parquet": {"source": "text.parquet", "row_format": "text"},
    "two sources with weights": {
        "row": 'weight = 0.5\n[[data.train]]\nsource = "tiny/data/sharegpt.jsonl"\nformat = "sharegpt"\nweight = 1.5',
        "data": "eval_fraction = 0.1",
    },
}


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_python(tmp_path_factory.mktemp("environment"))


def preflight(bundle: Path, python: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), "preflight.py"]
    env = environment(python, CUDA_VISIBLE_DEVICES="")
    return subprocess.run(command, cwd=bundle, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", FORMATS)
def test_the_mask_of_every_format_is_proven(name: str, python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path, **FORMATS[name]), "1xCPU")
    done = preflight(bundle, python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of 256 rows have no trained token" in done.stdout
    assert "rows do not train the terminator" in done.stdout
    assert "[[" in done.stdout  # real rows, their trained stretches marked


def test_packed_rows_of_mixed_sources_train(python: Path, tmp_path: Path) -> None:
    parts = {**FORMATS["two sources with weights"], "data": "packing = true\neval_fraction = 0.1"}
    report = train(compile_bundle(write_recipe(tmp_path, **parts), "1xCPU"), python)
    assert report["losses"][-1] < report["losses"][0] - 2


def test_a_template_without_marks_is_found_before_training(python: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    bundle = compile_bundle(recipe, "1xCPU")
    template = bundle / "model" / "chat_template.jinja"
    template.write_text(template.read_text().replace("{%- generation %}", "").replace("{%- endgeneration %}", ""))
    assert preflight(bundle, python).returncode != 0


def test_a_terminator_outside_the_marks_is_found(python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path), "1xCPU")
    template = bundle / "model" / "chat_template.jinja"
    text = template.read_text()
    moved = "{{- message['content'] }}{%- endgeneration %}{{- '<|im_end|>' }}"
    template.write_text(text.replace("{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}", moved))
    done = preflight(bundle, python)
    assert done.returncode != 0
    assert "FAULT 256 rows do not train the terminator" in done.stdout


def test_rows_that_are_cut_are_counted(python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path), "1xCPU", "--set", "data.max_length=40")
    done = preflight(bundle, python)
    counted = [line for line in done.stdout.splitlines() if "longer than 40 tokens and cut" in line]
    assert counted and not counted[0].strip().startswith("0 of")


def test_another_data_file_than_the_compiled_one_is_found(python: Path, tmp_path: Path) -> None:
    bundle = compile_bundle(write_recipe(tmp_path), "1xCPU")
    data = bundle / "data" / "chat.jsonl"
    data.write_text(data.read_text() + '{"messages": []}\n')
    done = preflight(bundle, python)
    assert done.returncode != 0
    assert "chat.jsonl is another file" in done.stdout
