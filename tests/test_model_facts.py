"""The catalogs of models and GPUs: complete, with right sums and the shapes of transformers."""

import importlib.util
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "src" / "ftc" / "facts" / "data"
LINES = (DATA / "models.jsonl").read_text(encoding="utf-8").splitlines()
RECORDS: dict[str, dict[str, Any]] = {record["id"]: record for record in map(json.loads, LINES)}
VARIANTS: dict[str, dict[str, Any]] = json.loads((DATA / "variants.json").read_text("utf-8"))
GPUS: list[dict[str, Any]] = json.loads((DATA / "gpus.json").read_text("utf-8"))["gpus"]

# The records that are not held against transformers, and why.
NOT_REBUILT = {
    "internlm/internlm2_5-7b-chat": "remote code: transformers knows no model type internlm2",
}

STANDARD_FIELDS = (
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
)
MAY_BE_NULL = {
    "intermediate_size",  # mixtures without a dense layer
    "max_position_embeddings",
    "sliding_window",
    "num_experts",
    "experts_per_token",
    "chat_template",
    "chat_template_family",
    "gated",
    "license",
}
GPU_MAY_BE_NULL = {
    "arch",
    "compute_capability",
    "usable_memory_bytes",
    "usable_memory_source",
    "inter_node_bytes_per_s",
}

every_model = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())


@pytest.fixture(scope="module")
def importer() -> Iterator[ModuleType]:
    """The script that makes the data files: the fixed order of keys is written there."""
    path = ROOT / "scripts" / "import_facts.py"
    spec = importlib.util.spec_from_file_location("import_facts", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def tied_duplicate(record: dict[str, Any]) -> int:
    """Returns how many numbers `modules` lists twice: those of a head tied to the embedding.

    `modules` lists both, as both are parameters of the class; `params_total` counts them once.
    """
    if not record["tie_word_embeddings"]:
        return 0
    weights: dict[str, int] = {name: math.prod(shape) for name, _, shape, _ in record["modules"]}
    head, embedding = (weights[f"{record[key]}.weight"] for key in ("head", "embedding"))
    assert head == embedding
    return head


def numbers_in(modules: list[Any]) -> int:
    return sum(math.prod(shape) * count for _, _, shape, count in modules)


# --- the catalog of models -----------------------------------------------------------------------


@every_model
def test_every_record_has_exactly_the_keys(record: dict[str, Any], importer: ModuleType) -> None:
    assert tuple(record) == importer.MODEL_KEYS
    assert {key for key, value in record.items() if value is None} <= MAY_BE_NULL
    assert record["sources"]


def test_the_catalog_is_sorted_and_compact() -> None:
    assert list(RECORDS) == sorted(RECORDS)
    assert len(RECORDS) == len(LINES) == 194
    assert [line[:7] for line in LINES] == ['{"id":"'] * len(LINES)


@every_model
def test_the_total_is_the_sum_of_the_modules(record: dict[str, Any]) -> None:
    assert record["params_total"] == numbers_in(record["modules"]) - tied_duplicate(record)


@every_model
def test_the_active_parameters_are_those_of_the_chosen_experts(record: dict[str, Any]) -> None:
    routed = numbers_in([m for m in record["modules"] if m[1].endswith("Experts")])
    assert record["params_routed_experts"] == routed
    assert record["fused_experts"] == bool(routed) == bool(record["num_experts"])
    unused = 0
    if routed:
        experts, chosen = record["num_experts"], record["experts_per_token"]
        assert 1 <= chosen < experts
        assert all(m[2][0] == experts for m in record["modules"] if m[1].endswith("Experts"))
        unused = routed // experts * (experts - chosen)
    assert record["params_active"] == record["params_total"] - unused


@every_model
def test_named_modules_are_in_the_list(record: dict[str, Any]) -> None:
    modules = {pattern.rpartition(".")[0] for pattern, *_ in record["modules"]}
    assert {record["embedding"], record["head"], *record["lora_linears"]} <= modules
    assert record["head"] not in record["lora_linears"]
    assert record["lora_linears"]
    # Falcon's linear layers are a subclass of nn.Linear; bitsandbytes takes only the class itself.
    assert (record["bnb_params"] == 0) == (record["model_type"] == "falcon")
    assert record["bnb_params"] < record["params_total"]


@every_model
def test_the_shapes_fit_the_dimensions(record: dict[str, Any]) -> None:
    shapes = {pattern: (shape, count) for pattern, _, shape, count in record["modules"]}
    embedding = shapes[f"{record['embedding']}.weight"][0]
    projected = record["extra_config"].get("word_embed_proj_dim", record["hidden_size"])
    assert embedding == [record["vocab_size"], projected]
    assert record["num_attention_heads"] % record["num_key_value_heads"] == 0


def test_names_are_unique() -> None:
    names = [*RECORDS, *VARIANTS, *(alias for r in RECORDS.values() for alias in r["aliases"])]
    counted = Counter(name.casefold() for name in names)
    assert [name for name, count in counted.items() if count > 1] == []


def test_every_variant_refers_to_a_record() -> None:
    listed = {v: name for name, r in RECORDS.items() for v in r["same_architecture_ids"]}
    assert {name: entry["of"] for name, entry in VARIANTS.items()} == listed
    assert list(VARIANTS) == sorted(VARIANTS)
    assert all(set(entry) == {"of", "chat_template"} for entry in VARIANTS.values())


@pytest.mark.parametrize(
    ("name", "ships"),
    [
        ("meta-llama/Llama-3.1-8B", False),
        ("meta-llama/Llama-3.1-8B-Instruct", True),
        ("Qwen/Qwen2.5-0.5B", True),
        ("Qwen/Qwen3-8B-Base", True),
        ("mistralai/Mixtral-8x7B-v0.1", False),
        ("google/gemma-3-4b-it", True),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", True),
        ("01-ai/Yi-1.5-6B", None),
    ],
)
def test_which_tokenizers_ship_a_chat_template(name: str, ships: bool | None) -> None:
    assert (RECORDS.get(name) or VARIANTS[name])["chat_template"] is ships


# --- the catalog of GPUs -------------------------------------------------------------------------


def folded(name: str) -> str:
    return re.sub(r"[\s_]", "", name).casefold()


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: str(gpu["name"]))
def test_every_gpu_is_complete(gpu: dict[str, Any], importer: ModuleType) -> None:
    assert tuple(gpu) == importer.GPU_KEYS
    assert {key for key, value in gpu.items() if value is None} <= GPU_MAY_BE_NULL
    assert (gpu["usable_memory_bytes"] is None) == (gpu["usable_memory_source"] is None)
    assert set(gpu["dense_tflops"]) == {"bf16", "fp16", "fp8"}
    assert gpu["sources"]


def test_gpu_names_are_unique() -> None:
    """As the compiler compares them. `CPU` alone has its own name as an alias."""
    aliases = {g["name"]: [a for a in g["aliases"] if a != "CPU"] for g in GPUS}
    names = Counter(folded(n) for name in aliases for n in (name, *aliases[name]))
    assert [name for name, count in names.items() if count > 1] == []
    assert len(GPUS) == 36


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("a100", "A100-80GB-SXM"),
        ("A100-40GB", "A100-40GB-SXM"),
        ("H100", "H100-80GB-SXM"),
        ("H200", "H200-141GB-SXM"),
        ("RTX 4090", "RTX4090-24GB"),
        ("4090", "RTX4090-24GB"),
        ("MI300X", "MI300X-192GB"),
        ("cpu", "CPU"),
    ],
)
def test_what_people_type(typed: str, name: str) -> None:
    assert [g["name"] for g in GPUS if folded(typed) in map(folded, g["aliases"])] == [name]


@pytest.mark.parametrize("gpu", [g for g in GPUS if g["usable_memory_bytes"]], ids=lambda gpu: str(gpu["name"]))
def test_usable_memory_is_near_the_memory_in_the_name(gpu: dict[str, Any]) -> None:
    """Vendors write GB for GiB; reserved memory, ECC and drivers take a part."""
    written = re.search(r"-(\d+)GB", gpu["name"])
    if written is None:
        assert gpu["name"] == "CPU"
        return
    assert 0.80 <= gpu["usable_memory_bytes"] / (int(written[1]) * 2**30) <= 1.01


# --- against transformers ------------------------------------------------------------------------


def rebuilt_config(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the config fields of a record: the standard ones, then `extra_config`."""
    extra = dict(record["extra_config"])
    fields = {key: record[key] for key in STANDARD_FIELDS}
    if not record["is_multimodal"]:
        return without_nulls(fields | extra)
    text = without_nulls(fields | extra.pop("text_config", {}))
    return {"tie_word_embeddings": record["tie_word_embeddings"], **extra, "text_config": text}


def without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    """A standard field that is null is left out; an extra one (`q_lora_rank`) is a value."""
    absent = [key for key in STANDARD_FIELDS if fields[key] is None]
    return {key: value for key, value in fields.items() if key not in absent}


def build_on_meta(record: dict[str, Any]) -> Any:
    """Returns the model without its weights.

    A class that AutoModelForCausalLM does not know takes images too.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(record["model_type"], **rebuilt_config(record))
    causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForImageTextToText
    with torch.device("meta"):
        return auto.from_config(config)


def starred(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


@pytest.mark.slow
@every_model
def test_transformers_builds_the_same_model(record: dict[str, Any]) -> None:
    if record["id"] in NOT_REBUILT:
        pytest.skip(NOT_REBUILT[record["id"]])
    model = build_on_meta(record)
    found = Counter(
        (starred(name), type(model.get_submodule(name.rpartition(".")[0])).__name__, tuple(p.shape))
        for name, p in model.named_parameters(remove_duplicate=False)
    )
    assert found == {(name, kind, tuple(shape)): n for name, kind, shape, n in record["modules"]}
    assert sum(p.numel() for p in model.parameters()) == record["params_total"]
    assert type(model).__name__ == record["architecture"]
    check_modules(model, record)


def check_modules(model: Any, record: dict[str, Any]) -> None:
    """Holds what LoRA and bitsandbytes pick against the rules of peft and transformers."""
    names = {module: starred(name) for name, module in model.named_modules()}
    assert names[model.get_input_embeddings()] == record["embedding"]
    assert names[model.get_output_embeddings()] == record["head"]
    assert record["layer_class"] in {type(module).__name__ for module in names}
    assert set(peft_linears(model)) == set(record["lora_linears"])
    assert quantized_params(model) == record["bnb_params"]


def peft_linears(model: Any) -> list[str]:
    """Returns what `target_modules="all-linear"` becomes, with stars for layer numbers."""
    pytest.importorskip("peft")
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _maybe_include_all_linear_layers

    config = _maybe_include_all_linear_layers(LoraConfig(target_modules="all-linear"), model)
    return [starred(name) for name in config.target_modules or ()]


def quantized_params(model: Any) -> int:
    """Returns the size of the weights that `replace_with_bnb_linear` would swap."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Conv1D) or type(module) is nn.Linear
    }
    return sum(m.weight.numel() for name, m in linears.items() if should_convert_module(name, kept))
