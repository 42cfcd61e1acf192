"""Makes the tiny model and data set that the quickstart and the end-to-end tests train on. All of it is invented.

    python scripts/make_tiny.py recipes/tiny

The model has random weights; the tokenizer is trained on the data; the rows ask a fictional kite shop for prices.
"""

import csv
import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROWS = 400
EVAL_ROWS = 60
VOCABULARY = 512
COLOURS = ("red", "blue", "green", "amber", "violet", "white")
KITES = ("dragon", "swallow", "delta", "sled", "box", "café", "star")
SYSTEM = 'You are the clerk of the kite shop "Föhn". Answer in one sentence.'
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = """\
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
Row = dict[str, Any]


def price(colour: str, kite: str) -> int:
    """Returns the price of a kite: what the model can learn."""
    return 10 + 3 * COLOURS.index(colour) + 2 * KITES.index(kite)


def exchange(rng: random.Random) -> tuple[str, str, str]:
    """Returns a question, its right answer and a wrong one."""
    colour, kite = rng.choice(COLOURS), rng.choice(KITES)
    question = f"What does the {colour} {kite} kite cost?"
    right = f"The {colour} {kite} kite costs {price(colour, kite)} florins."
    wrong = f"The {colour} {kite} kite is not for sale."
    return question, right, wrong


def conversation(rng: random.Random) -> list[dict[str, str]]:
    """Returns one to three exchanges, half of the time under a system message."""
    messages = [{"role": "system", "content": SYSTEM}] if rng.random() < 0.5 else []
    for _ in range(rng.choice((1, 1, 2, 3))):
        question, right, _wrong = exchange(rng)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": right}]
    return messages


def sharegpt(messages: list[dict[str, str]]) -> Row:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in messages]}


def alpaca(rng: random.Random) -> Row:
    question, right, _ = exchange(rng)
    if rng.random() < 0.5:
        return {"instruction": question, "input": "", "output": right}
    return {"instruction": "Answer the customer.", "input": question, "output": right}


def preference(rng: random.Random) -> Row:
    question, right, wrong = exchange(rng)
    ask = [{"role": "user", "content": question}]
    return {
        "prompt": ask,
        "chosen": [{"role": "assistant", "content": right}],
        "rejected": [{"role": "assistant", "content": wrong}],
    }


def unpaired(rng: random.Random) -> Row:
    row = preference(rng)
    label = rng.random() < 0.5
    return {"prompt": row["prompt"], "completion": row["chosen" if label else "rejected"], "label": label}


def make_rows() -> dict[str, list[Row]]:
    """Returns file name -> rows, each file from a seed of its own."""
    rng = random.Random(7)
    pairs = [exchange(rng)[:2] for _ in range(ROWS)]
    return {
        "chat.jsonl": [{"messages": conversation(rng)} for _ in range(ROWS)],
        "chat_eval.jsonl": [{"messages": conversation(rng)} for _ in range(EVAL_ROWS)],
        "sharegpt.jsonl": [sharegpt(conversation(rng)) for _ in range(ROWS)],
        "alpaca.jsonl": [alpaca(rng) for _ in range(ROWS)],
        "prompt_completion.jsonl": [{"prompt": f"{q}\n", "completion": a} for q, a in pairs],
        "text.jsonl": [{"text": f"{q} {a}"} for q, a in pairs],
        "pairs.csv": [{"question": f"{q}\n", "answer": a} for q, a in pairs],
        "text.parquet": [{"text": f"{q} {a}"} for q, a in pairs],
        "preference.jsonl": [preference(rng) for _ in range(ROWS)],
        "unpaired.jsonl": [unpaired(rng) for _ in range(ROWS)],
    }


def write_rows(folder: Path, files: dict[str, list[Row]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        if name.endswith(".jsonl"):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / name).write_text("".join(lines), encoding="utf-8")
        elif name.endswith(".csv"):
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        else:
            write_parquet(folder / name, rows)


def write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def texts(files: dict[str, list[Row]]) -> Iterator[str]:
    for row in files["chat.jsonl"]:
        yield from (message["content"] for message in row["messages"])


def make_tokenizer(corpus: Iterable[str]) -> Any:
    """Returns a byte-level BPE tokenizer with our chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=512,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer: Any) -> Any:
    """Returns a random Qwen3 of about 0.15 M parameters whose linear layers divide by bitsandbytes' block of 64."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def main(out: Path) -> None:
    files = make_rows()
    write_rows(out / "data", files)
    tokenizer = make_tokenizer(texts(files))
    assert len(tokenizer) <= VOCABULARY
    model = make_model(tokenizer)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
