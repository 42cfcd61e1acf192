"""Makes the catalogs in `src/ftc/facts/data` from the files that their facts were collected in.

    python scripts/import_facts.py --models models.jsonl --modules modules.json --gpus gpus.json

What no source says in a form for programs (names that people type, which tokenizer ships a chat
template, fields without which a config is not rebuilt) is in `curated_facts.json` beside this file.
"""

import argparse
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Parameter = list[Any]  # pattern, module class, shape, count

CURATED = Path(__file__).with_name("curated_facts.json")
DATA = Path(__file__).parents[1] / "src" / "ftc" / "facts" / "data"
GIB, MIB = 2**30, 2**20

MODEL_KEYS = (
    "id",
    "aliases",
    "same_architecture_ids",
    "model_type",
    "architecture",
    "layer_class",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
    "max_position_embeddings",
    "sliding_window",
    "extra_config",
    "mlp_gated",
    "is_multimodal",
    "params_total",
    "params_active",
    "params_routed_experts",
    "num_experts",
    "experts_per_token",
    "fused_experts",
    "modules",
    "lora_linears",
    "bnb_params",
    "embedding",
    "head",
    "chat_template",
    "chat_template_family",
    "gated",
    "license",
    "sources",
)
GPU_KEYS = (
    "name",
    "aliases",
    "vendor",
    "arch",
    "compute_capability",
    "usable_memory_bytes",
    "usable_memory_source",
    "dense_tflops",
    "hbm_bandwidth_bytes_per_s",
    "link_bytes_per_s",
    "link_name",
    "inter_node_bytes_per_s",
    "gpus_per_node",
    "bf16",
    "flash_attention_2",
    "flash_attention_3",
    "sources",
)
# Carried over under their own names. The layer class has another name in the source.
PLAIN_MODEL_KEYS = tuple(k for k in MODEL_KEYS[3:16] if k not in ("architecture", "layer_class"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes `models.jsonl`, `variants.json` and `gpus.json`."""
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    for name in ("models", "modules", "gpus"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    curated = _read_json(CURATED)
    records = _models(options.models, options.modules, curated["models"])
    variants = _variants(records, curated["models"]["chat_template"])
    gpus = _gpus(_read_json(options.gpus)["gpus"], curated["gpus"])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "models.jsonl").write_text(_lines(records), encoding="utf-8")
    _write_json(options.out / "variants.json", variants)
    _write_json(options.out / "gpus.json", gpus)


# --- models --------------------------------------------------------------------------------------


def _models(models: Path, modules: Path, curated: Record) -> list[Record]:
    """Returns one record per model, sorted by id."""
    details = _read_json(modules)
    details["models"] |= curated["modules"]
    details["architectures"] |= curated["architectures"]
    lines = models.read_text(encoding="utf-8").splitlines()
    sources = [json.loads(line) for line in lines if line]
    return sorted((_model(s, details, curated) for s in sources), key=lambda r: str(r["id"]))


def _model(source: Record, details: Record, curated: Record) -> Record:
    """Returns the record of one model, its keys in the fixed order."""
    name = source["id"]
    source = source | curated["overrides"].get(name, {})
    detail = details["models"][name]
    architecture = details["architectures"][detail["model_class"]]
    text_only = curated["text_only"].get(detail["model_class"], {})
    heads = [_rename(h, text_only) for h in architecture["output_head_modules"]]
    parameters = _parameters(detail["params"], text_only)
    linears = [_rename(m, text_only) for m in detail["linear_modules"] if _keep(m, text_only)]
    record = {key: source.get(key) for key in PLAIN_MODEL_KEYS}
    record |= _names(source, detail, text_only, curated)
    kept = curated["kept_in_float32"].get(detail["model_class"], [])
    record |= _counts(source, parameters, heads[0], kept)
    record |= {
        "extra_config": _extra_config(source, curated),
        "mlp_gated": source["mlp_gated"],
        "is_multimodal": bool(source["is_multimodal"]),
        "modules": parameters,
        "lora_linears": [m for m in linears if m not in heads],
        "embedding": _embedding(parameters, source["vocab_size"]),
        "head": heads[0],
    }
    return {key: record[key] for key in MODEL_KEYS}


def _names(source: Record, detail: Record, text_only: Record, curated: Record) -> Record:
    """Returns who the model is, what its tokenizer ships and where the facts are from."""
    templates = curated["chat_template"]
    totals = [source["param_count_total_source"]] if source["param_count_total_source"] else []
    return {
        "id": source["id"],
        "aliases": source["aliases"] or [],
        "same_architecture_ids": source["same_architecture_ids"] or [],
        "architecture": text_only.get("architecture", detail["model_class"]),
        "layer_class": source["decoder_layer_cls"],
        "chat_template": _template(source["id"], templates),
        "chat_template_family": source["chat_template_family"],
        "gated": source["gated"],
        "license": source["license"],
        "sources": list(dict.fromkeys([*source["sources"], *totals])),
    }


def _template(name: str, templates: Mapping[str, list[str]]) -> bool | None:
    """Returns whether the tokenizer of this very id ships a chat template; None if unknown."""
    if name in templates["shipped"]:
        return True
    return False if name in templates["absent"] else None


def _keep(pattern: str, text_only: Record) -> bool:
    """Returns whether a module is left when AutoModelForCausalLM gives the text-only class."""
    return not pattern.startswith(tuple(text_only.get("drop", ())))


def _rename(pattern: str, text_only: Record) -> str:
    """Returns the name that a module has in the text-only class."""
    for old, new in text_only.get("rename", {}).items():
        if pattern.startswith(old):
            return f"{new}{pattern.removeprefix(old)}"
    return pattern


def _parameters(params: Iterable[Record], text_only: Record) -> list[Parameter]:
    """Returns [pattern, module class, shape, count] of every parameter of the trained class."""
    return [
        [_rename(p["pattern"], text_only), p["module_class"], p["shape"], p["count"]]
        for p in params
        if _keep(p["pattern"], text_only)
    ]


def _counts(source: Record, parameters: Sequence[Parameter], head: str, kept: list[str]) -> Record:
    """Returns the parameter counts, counted from the shapes and not copied."""
    tied = f"{head}.weight" if source["tie_word_embeddings"] else ""
    total = _size(p for p in parameters if p[0] != tied)
    routed = _size(p for p in parameters if p[1].endswith("Experts"))
    if routed != (source["param_count_routed_experts"] or 0):
        raise ValueError(f"{source['id']}: {routed} routed parameters in the shapes")
    experts, chosen = _experts(source, routed)
    active = total - routed + (routed * chosen // experts if experts and chosen else 0)
    return {
        "params_total": total,
        "params_active": active,
        "params_routed_experts": routed,
        "num_experts": experts,
        "experts_per_token": chosen,
        "fused_experts": bool(routed),
        "bnb_params": _quantized([p for p in parameters if p[0] != tied], [head, *kept]),
    }


def _quantized(parameters: Sequence[Parameter], kept: Sequence[str]) -> int:
    """Returns the size of the weights that transformers gives to bitsandbytes' layers.

    They are nn.Linear itself and Conv1D, never a subclass; left out are the head, what the class
    keeps in float32 and, whatever it is, the last parameter (`get_keys_to_not_convert`).
    """
    kept_weights = tuple(f"{name}.weight" for name in kept)
    linear = [p for p in parameters if p[1] in ("Linear", "Conv1D") and p[0].endswith(".weight")]
    exact = [p for p in linear if not p[0].endswith(kept_weights)]
    last = parameters[-1]
    return _size(exact) - (math.prod(last[2]) if last in exact else 0)


def _experts(source: Record, routed: int) -> tuple[int | None, int | None]:
    """Returns how many experts there are and how many a token passes; None twice if dense."""
    if not routed:
        return None, None
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return next(int(source[n]) for n in names if source.get(n)), int(source["num_experts_per_tok"])


def _size(parameters: Iterable[Parameter]) -> int:
    return sum(math.prod(shape) * count for _, _, shape, count in parameters)


def _embedding(parameters: Sequence[Parameter], vocabulary: int) -> str:
    """Returns the input embedding: the first embedding as long as the vocabulary."""
    found = (p[0] for p in parameters if "Embedding" in p[1] and p[2][0] == vocabulary)
    return str(next(found)).removesuffix(".weight")


def _extra_config(source: Record, curated: Record) -> Record:
    """Returns what else a config needs to rebuild this model: by its type, then by its id."""
    keys = curated["extra_config_keys"].get(source["model_type"], [])
    found = {key: source[key] for key in keys if source.get(key) is not None}
    if source["is_multimodal"]:
        found = {"text_config": found} if found else {}
    for key, value in curated["extra_config"].get(source["id"], {}).items():
        found[key] = found.get(key, {}) | value if isinstance(value, dict) else value
    return found


def _variants(records: Iterable[Record], templates: Mapping[str, list[str]]) -> Record:
    """Returns each id that shares a record's shapes: id -> the record, and its own template."""
    found = {
        variant: {"of": record["id"], "chat_template": _template(variant, templates)}
        for record in records
        for variant in record["same_architecture_ids"]
    }
    return dict(sorted(found.items()))


# --- GPUs ----------------------------------------------------------------------------------------


def _gpus(sources: Iterable[Record], curated: Record) -> Record:
    """Returns the whole of `gpus.json`: the GPUs as in the source, then those that we add."""
    gpus = [_gpu(source, curated["by_source_name"][source["name"]]) for source in sources]
    return {"conventions": curated["conventions"], "gpus": gpus + curated["added"]}


def _gpu(source: Record, curated: Record) -> Record:
    """Returns one GPU. A curated value wins over the source's, and says why in its own source."""
    memory, memory_source = _memory(source, curated)
    flash = source["supports"]
    record = {
        "vendor": source["vendor"],
        "arch": source["arch"],
        "compute_capability": source["compute_capability"],
        "usable_memory_bytes": memory,
        "usable_memory_source": memory_source,
        "dense_tflops": {kind: source["dense_tflops"][kind] for kind in ("bf16", "fp16", "fp8")},
        "hbm_bandwidth_bytes_per_s": _giga(source["hbm_bandwidth_gbs"]),
        "link_bytes_per_s": _giga(source["link_unidir_gbs_per_gpu"]),
        "inter_node_bytes_per_s": _giga(source["inter_node_nic_gbps_per_gpu"], bits=8),
        "gpus_per_node": source["gpus_per_node_typical"],
        "bf16": bool(flash["bf16"]),
        "flash_attention_2": bool(flash["flash_attention_2"]),
        "flash_attention_3": bool(flash["flash_attention_3"]),
    }
    record |= {key: value for key, value in curated.items() if key in GPU_KEYS}
    sources = [*map(_plain, source["sources"]), *curated.get("sources", [])]
    record["sources"] = list(dict.fromkeys(sources))
    return {key: record[key] for key in GPU_KEYS}


def _memory(source: Record, curated: Record) -> tuple[int | None, str | None]:
    """Returns what torch reports as total memory, and who says so."""
    if "capacity_gib" in curated:
        return math.floor(curated["capacity_gib"] * GIB), curated["capacity_source"]
    if source["torch_total_memory_mib"] is not None:
        return source["torch_total_memory_mib"] * MIB, _plain(source["torch_total_memory_source"])
    return None, None


def _plain(source: str) -> str:
    """Returns a source without the numbers and prefixes that only the collector could look up."""
    source = re.sub(r"\bin id \d+", "in another log", source)
    return re.sub(r" / \d{6,}", "", source).removeprefix("search docs: ")


def _giga(value: float | None, bits: int = 1) -> int | None:
    """Returns bytes per second of a value in GB/s, or with bits=8 in Gb/s."""
    return None if value is None else round(value * 1e9 / bits)


# --- files ---------------------------------------------------------------------------------------


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _lines(records: Iterable[Record]) -> str:
    dumped = (json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in records)
    return "".join(f"{line}\n" for line in dumped)


if __name__ == "__main__":
    main()
