"""What is known of a base model: its shape, its parameters module by module, and what its tokenizer ships."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from ftc.facts.files import read_data


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleFacts:
    """One parameter of the model. `pattern` has `*` for layer numbers; `count` is how many of them there are."""

    pattern: str
    module_class: str
    shape: tuple[int, ...]
    count: int

    @property
    def params(self) -> int:
        return math.prod(self.shape) * self.count

    @property
    def module(self) -> str:
        """The module's path without the parameter's own name."""
        return self.pattern.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The facts of one base model. Parameter counts leave out the second copy of tied weights."""

    id: str
    model_type: str
    architecture: str
    layer_class: str
    hidden_size: int
    intermediate_size: int | None
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    max_position_embeddings: int | None
    sliding_window: int | None
    mlp_gated: bool
    is_multimodal: bool
    params_total: int
    params_active: int
    params_routed_experts: int
    num_experts: int | None
    experts_per_token: int | None
    fused_experts: bool
    modules: tuple[ModuleFacts, ...]
    lora_linears: tuple[str, ...]
    bnb_params: int
    embedding: str
    head: str
    chat_template: bool | None
    chat_template_family: str | None
    gated: bool | None
    sources: tuple[str, ...]
    local_folder: str | None = None

    @cached_property
    def linears(self) -> tuple[ModuleFacts, ...]:
        """The weights of the linear modules that LoRA's all-linear matches."""
        wanted = frozenset(self.lora_linears)
        return tuple(m for m in self.modules if m.module in wanted and m.pattern.endswith(".weight"))

    @property
    def embedding_params(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def is_moe(self) -> bool:
        return bool(self.num_experts)

    @property
    def layer_params(self) -> int:
        """Parameters of one decoder layer: what FSDP gathers at a time."""
        inside = sum(m.params for m in self.modules if ".layers.*." in m.pattern or ".h.*." in m.pattern)
        return inside // max(1, self.num_hidden_layers)


@cache
def _records() -> Mapping[str, str]:
    """Returns the catalog as id -> its line; a line is parsed only when its model is asked for."""
    lines = read_data("models.jsonl").splitlines()
    return {line[7 : line.index('"', 7)]: line for line in lines if line}


@cache
def load_catalog(name: str) -> ModelFacts | None:
    """Returns the facts of a catalogued hub id, or None."""
    records = _records()
    line = records.get(name)
    if line is not None:
        return read_model(json.loads(line))
    variants = _variants()
    if name in variants:
        base = read_model(json.loads(records[variants[name]["of"]]))
        return replace(base, id=name, chat_template=variants[name]["chat_template"])
    return None


@cache
def _variants() -> Mapping[str, Mapping[str, Any]]:
    variants: dict[str, dict[str, Any]] = json.loads(read_data("variants.json"))
    return variants


def find_alias(name: str) -> str | None:
    """Returns the id that a short name like `llama2-7b` stands for, compared without case."""
    folded = name.casefold()
    for line in _records().values():
        record = json.loads(line)
        if folded in (a.casefold() for a in record["aliases"]):
            return str(record["id"])
    return None


def model_names() -> list[str]:
    """Returns every id that the catalog takes, sorted."""
    return sorted({*_records(), *_variants()})


def read_model(record: Mapping[str, Any]) -> ModelFacts:
    """Returns the facts of one catalog record."""
    modules = tuple(
        ModuleFacts(pattern=pattern, module_class=kind, shape=tuple(shape), count=count)
        for pattern, kind, shape, count in record["modules"]
    )
    plain = {name: record[name] for name in _PLAIN}
    return ModelFacts(
        **plain,
        modules=modules,
        lora_linears=tuple(record["lora_linears"]),
        sources=tuple(record["sources"]),
    )


_PLAIN = tuple(
    name
    for name in ModelFacts.__dataclass_fields__
    if name not in ("modules", "lora_linears", "sources", "local_folder")
)


def matches_target(module: str, target: str) -> bool:
    """Returns whether PEFT would match `target` with `module`: equal, or the end after a dot."""
    plain = re.sub(r"(?<=\.)\d+(?=\.)", "*", target)
    return module == plain or module.endswith("." + plain)
