"""The tiny model and data set: small, well formed, and what scripts/make_tiny.py makes."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "recipes" / "tiny"
COUNTS = {
    "chat.jsonl": 400,
    "chat_eval.jsonl": 60,
    "sharegpt.jsonl": 400,
    "alpaca.jsonl": 400,
    "prompt_completion.jsonl": 400,
    "text.jsonl": 400,
    "preference.jsonl": 400,
    "unpaired.jsonl": 400,
}
MODEL = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}
CHATS = ["chat.jsonl", "chat_eval.jsonl"]
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    lines = (TINY / "data" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def settings(name: str) -> Row:
    loaded: Row = json.loads((TINY / "model" / name).read_text(encoding="utf-8"))
    return loaded


def header(path: Path) -> Row:
    """Returns the header of a safetensors file: name -> dtype, shape, offsets."""
    data = path.read_bytes()
    loaded: Row = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    loaded.pop("__metadata__", None)
    return loaded


def assert_conversation(roles: list[str], texts: list[str]) -> None:
    """One to three exchanges, under a system message or none."""
    turns = roles[roles[0] == "system" :]
    assert turns == ["user", "assistant"] * (len(turns) // 2) and 1 <= len(turns) // 2 <= 3
    assert all(texts)


def test_every_file_is_there_and_small() -> None:
    made = {path.relative_to(TINY).as_posix() for path in TINY.rglob("*") if path.is_file()}
    data = {*COUNTS, "pairs.csv", "text.parquet"}
    assert made == {f"model/{n}" for n in MODEL} | {f"data/{n}" for n in data} | {"README.md"}
    assert all((TINY / name).stat().st_size < 1 << 20 for name in made)
    assert (TINY / "model" / "model.safetensors").stat().st_size < 900_000
    assert all((TINY / "data" / name).stat().st_size < 300_000 for name in data)


@pytest.mark.parametrize("name", COUNTS)
def test_rows_are_counted_and_written_as_they_read(name: str) -> None:
    text = (TINY / "data" / name).read_text(encoding="utf-8")
    assert len(rows(name)) == COUNTS[name] and text.endswith("\n")
    assert "\\u" not in text and "café" in text


@pytest.mark.parametrize("name", CHATS)
def test_chats(name: str) -> None:
    for row in rows(name):
        assert list(row) == ["messages"]
        messages = row["messages"]
        assert_conversation([m["role"] for m in messages], [m["content"] for m in messages])
    assert {len(row["messages"]) for row in rows(name)} == {2, 3, 4, 5, 6, 7}
    assert 'the kite shop \\"Föhn\\"' in (TINY / "data" / name).read_text(encoding="utf-8")


def test_sharegpt() -> None:
    names = {"system": "system", "human": "user", "gpt": "assistant"}
    for row in rows("sharegpt.jsonl"):
        turns = row["conversations"]
        assert_conversation([names[t["from"]] for t in turns], [t["value"] for t in turns])
    first = {row["conversations"][0]["from"] for row in rows("sharegpt.jsonl")}
    assert first == {"system", "human"}


def test_flat_formats() -> None:
    alpaca = rows("alpaca.jsonl")
    assert all(list(row) == ["instruction", "input", "output"] for row in alpaca)
    assert 150 < sum(not row["input"] for row in alpaca) < 250
    assert all(list(row) == ["prompt", "completion"] for row in rows("prompt_completion.jsonl"))
    assert all(list(row) == ["text"] for row in rows("text.jsonl"))
    assert (TINY / "data" / "text.parquet").read_bytes()[:4] == b"PAR1"


def test_pairs_are_the_prompts_under_other_names() -> None:
    with (TINY / "data" / "pairs.csv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    assert list(pairs[0]) == ["question", "answer"]
    same = [{"prompt": pair["question"], "completion": pair["answer"]} for pair in pairs]
    assert same == rows("prompt_completion.jsonl")


def test_preferences() -> None:
    for row in rows("preference.jsonl"):
        assert list(row) == ["prompt", "chosen", "rejected"] and row["chosen"] != row["rejected"]
        assert [m["role"] for m in row["prompt"] + row["chosen"]] == ["user", "assistant"]
    unpaired = rows("unpaired.jsonl")
    assert all(list(row) == ["prompt", "completion", "label"] for row in unpaired)
    assert 150 < sum(row["label"] is True for row in unpaired) < 250


def test_model_can_be_quantized_in_blocks_of_64() -> None:
    config, tensors = settings("config.json"), header(TINY / "model" / "model.safetensors")
    assert config["architectures"] == ["Qwen3ForCausalLM"] and config["tie_word_embeddings"]
    assert "lm_head.weight" not in tensors
    assert {tensor["dtype"] for tensor in tensors.values()} == {"F32"}
    linear = [t["shape"] for name, t in tensors.items() if "_proj." in name]
    assert len(linear) == 7 * config["num_hidden_layers"]
    assert all(width % 64 == 0 for _height, width in linear)


def test_tokenizer_and_template() -> None:
    config, tokenizer = settings("config.json"), settings("tokenizer.json")
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    assert len(tokenizer["model"]["vocab"]) <= config["vocab_size"]
    assert config["vocab_size"] % 64 == 0
    assert set(special) == {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    assert config["eos_token_id"] == special["<|im_end|>"]
    assert config["pad_token_id"] == special["<|endoftext|>"]
    template = (TINY / "model" / "chat_template.jinja").read_text(encoding="utf-8")
    assert "generation %}" in template and "endgeneration %}" in template
    assert "add_generation_prompt" in template


def assert_same(made: Path, kept: Path) -> None:
    """The same bytes; where another version of a library wrote them, the same content."""
    if made.read_bytes() == kept.read_bytes():
        return
    if made.suffix == ".safetensors":
        load = pytest.importorskip("safetensors.torch").load_file
        a, b = load(made), load(kept)
        assert a.keys() == b.keys() and all(a[n].sub(b[n]).abs().max() < 1e-5 for n in b)
    elif made.suffix == ".parquet":
        read = pytest.importorskip("pyarrow.parquet").read_table
        assert read(made).to_pylist() == read(kept).to_pylist()
    else:
        assert made.name in {"config.json", "generation_config.json"}, f"{made.name} differs"
        a, b = (json.loads(path.read_text(encoding="utf-8")) for path in (made, kept))
        assert {**a, "transformers_version": ""} == {**b, "transformers_version": ""}


@pytest.mark.slow
def test_made_again_it_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    script = ROOT / "scripts" / "make_tiny.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    kept = {p.relative_to(TINY) for p in TINY.rglob("*") if p.is_file() and p.parent != TINY}
    assert made == kept
    for name in sorted(made):
        assert_same(tmp_path / name, TINY / name)


def trained_on(tokenizer: Any, messages: list[Row]) -> list[str]:
    """Returns the texts under the assistant mask, one for each unbroken run."""
    wanted = {"return_assistant_tokens_mask": True, "return_dict": True}
    out = tokenizer.apply_chat_template(messages, **wanted)
    runs: list[list[int]] = []
    before = 0
    for token, marked in zip(out["input_ids"], out["assistant_masks"], strict=True):
        if marked and not before:
            runs.append([])
        if marked:
            runs[-1].append(token)
        before = marked
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.slow
def test_the_mask_is_the_answers_with_their_terminator() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY / "model")
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    for row in rows("chat_eval.jsonl"):
        answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        terminated = [f"{answer}<|im_end|>" for answer in answers]
        assert trained_on(tokenizer, row["messages"]) == terminated


@pytest.mark.slow
def test_the_template_keeps_its_prefix() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY / "model")
    roles = ("system", "user", "assistant", "tool", "assistant")
    messages = [{"role": role, "content": f"{role} says"} for role in roles]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    for end in range(1, len(messages)):
        wanted = {"tokenize": False, "add_generation_prompt": messages[end]["role"] == "assistant"}
        assert whole.startswith(tokenizer.apply_chat_template(messages[:end], **wanted))
