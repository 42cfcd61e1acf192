"""The closed form against an oracle that ran real library code on fake tensors: one line each, and the errors.

    python benchmarks/compare_memory.py ORACLE.jsonl

Rows that the closed form does not claim to cover (another loss, another method) are left out and counted.
"""

import json
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ftc.facts import DataFacts, Facts, ModelFacts, StackFacts, Target, load_catalog, load_gpus
from ftc.plan import Candidate, budget_memory
from ftc.settings import Adapter, Quantization, Settings

MODELS = {
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Llama-3.1-70B",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "qwen3-30b-a3b": "Qwen/Qwen3-30B-A3B",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
}
TARGETS: dict[str, str | tuple[str, ...]] = {
    "all": "all-linear",
    "qv": ("q_proj", "v_proj"),
    "attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
OPTIMIZERS = {"fused": "adamw_torch_fused", "foreach": "adamw_torch"}


def main(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    errors = []
    for row in rows:
        if not covered(row):
            continue
        predicted = predict(row) / 2**30
        error = predicted / row["peak_gib"] - 1
        errors.append(error)
        print(f"{row['tag']:<36}{row['peak_gib']:>9.2f}{predicted:>9.2f}{error:>8.1%}")
    sizes = sorted(abs(e) for e in errors)
    print(f"{len(errors)} of {len(rows)} rows; median {statistics.median(sizes):.1%}, 95 % within", end=" ")
    print(f"{sizes[int(0.95 * (len(sizes) - 1))]:.1%}, largest {sizes[-1]:.1%}")


def covered(row: dict[str, Any]) -> bool:
    stock_loss = row["loss"] != "trl" and not (row["method"] == "full" and row["peak_phase"] == "opt")
    return row["algo"] == "sft" and not stock_loss and not row["prep_kbit"] and row["shard"] in ("none", "fsdp2")


def predict(row: dict[str, Any]) -> int:
    """Returns the predicted `max_memory_allocated` in bytes."""
    gpu = next(g for g in load_gpus() if g.name.startswith("H100"))
    target = Target(gpu=gpu, nodes=1, gpus_per_node=row["gpus"])
    model = cast(ModelFacts, load_catalog(MODELS[row["model"]]))
    facts = Facts(model=model, stack=cast(StackFacts, None), target=target, data=DataFacts())
    settings = make_settings(row)
    candidate = Candidate(
        strategy="fsdp2" if row["shard"] == "fsdp2" else "single",
        micro_batch=row["mb"],
        gradient_accumulation=1,
        gradient_checkpointing=bool(row["ckpt"]),
        offload="none",
    )
    return budget_memory(facts, settings, candidate).allocated_bytes


def make_settings(row: dict[str, Any]) -> Settings:
    adapter = Adapter(
        kind="dora" if row["dora"] else "lora",
        r=row["r"],
        alpha=16,
        dropout=row["dropout"],
        targets=TARGETS[row["targets"]],
        modules_to_save=(),
    )
    quantization = Quantization(bits=4, kind="nf4", double=not row["no_dq"])
    blank = SimpleNamespace(**dict.fromkeys(Settings._fields))
    values = {
        **vars(blank),
        "new_tokens": (),
        "dtype": "float32" if row["weights"] == "fp32" else "bfloat16",
        "attention": "eager" if row["attn"] == "eager" else "flash_attention_2",
        "adapter": None if row["method"] == "full" else adapter,
        "quantization": quantization if row["method"] == "qlora" else None,
        "max_length": row["seq"],
        "packing": False,
        "precision": "bf16",
        "optimizer": OPTIMIZERS.get(row["opt"], row["opt"]),
        "keep": 3,
        "merge": False,
        "choices": {},
    }
    return Settings(**values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
