"""A local model folder -> ModelFacts: dimensions from config.json, parameters from the safetensors headers."""

import hashlib
import json
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftc.diagnostic import Diagnostic, Span
from ftc.facts import LocalModel, ModelFacts, ModuleFacts, load_catalog, model_names
from ftc.paths import path_fault
from ftc.probe.data import stamp

_MAX_HEADER_BYTES = 100 * 2**20
_EMBEDDINGS = re.compile(r"(embed_tokens|wte|word_embeddings|embed_in)$")
_HEADS = re.compile(r"^(lm_head|embed_out|output)$")
_CARRIED = (".json", ".safetensors", ".jinja", ".model", ".txt")


def probe_model(folder: Path, name: str, span: Span) -> tuple[ModelFacts, LocalModel] | Diagnostic:
    """Returns the facts of the model in `folder` (named `name` in the recipe), or why it cannot be used."""
    stamps = tuple((p.name, stamp(p)) for p in sorted((folder / name).iterdir()) if p.is_file())
    return _probe_model(folder, name, span, stamps)


@lru_cache(maxsize=32)  # a model's files are hashed once, however many plans are tried over them
def _probe_model(
    folder: Path, name: str, span: Span, _stamps: tuple[tuple[str, tuple[int, int]], ...]
) -> tuple[ModelFacts, LocalModel] | Diagnostic:
    path = folder / name
    weights = sorted(path.glob("*.safetensors"))
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
        shapes = _read_shapes(weights)
    except (OSError, ValueError, struct.error, TypeError, KeyError, AttributeError) as error:
        return _fault(
            "FTC115",
            f"`{name}` has a config.json or a safetensors header that cannot be read: {type(error).__name__}",
            span,
            "save the model with `save_pretrained`",
        )
    if not weights and (list(path.glob("*.bin")) or list(path.glob("*.pt"))):
        hint = "save it again with `save_pretrained`, which writes safetensors"
        return _fault("FTC607", f"`{name}` holds pickled weights; only safetensors are loaded", span, hint)
    missing = [key for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size") if key not in config]
    if missing:
        hint = "use the config.json of a causal language model"
        return _fault("FTC115", f"`{name}/config.json` has no `{missing[0]}`", span, hint)
    facts = _from_shapes(name, path, config, shapes) if shapes else _from_catalog(name, path, config)
    if facts is None:
        hint = "put the .safetensors files into the folder; their headers tell every shape"
        return _fault(
            "FTC115",
            f"the size of `{name}` is not known: it has no weights and matches no catalogued model",
            span,
            hint,
        )
    strange = [p.name for p in path.iterdir() if p.suffix in _CARRIED and path_fault(p.name) is not None]
    if strange:
        return _fault("FTC601", f"`{name}` holds {strange[0]!a}, which cannot be used", span, "rename that file")
    return facts, LocalModel(folder=name, files=_carried_files(path))


def _fault(code: str, message: str, span: Span, hint: str) -> Diagnostic:
    return Diagnostic(code=code, severity="error", message=message, span=span, hints=(hint,))


def _carried_files(path: Path) -> Mapping[str, tuple[str, int]]:
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix in _CARRIED)
    return {p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size) for p in files}


def _read_shapes(weights: list[Path]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weights:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
        shapes.update({n: tuple(t["shape"]) for n, t in header.items() if n != "__metadata__"})
    return shapes


def _from_shapes(name: str, path: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> ModelFacts:
    tied = bool(config.get("tie_word_embeddings", False))
    counted: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for parameter, shape in shapes.items():
        counted[(re.sub(r"(?<=\.)\d+(?=\.)", "*", parameter), shape)] += 1
    modules = tuple(
        ModuleFacts(pattern=pattern, module_class=_class_of(pattern, shape), shape=shape, count=count)
        for (pattern, shape), count in sorted(counted.items())
        if not (tied and _HEADS.match(pattern.rpartition(".")[0]))
    )
    embedding = next((m for m in modules if m.module_class == "Embedding"), modules[0])
    linears = tuple(m.module for m in modules if m.module_class == "Linear" and not _HEADS.match(m.module))
    quantizable = sum(m.params for m in modules if m.module in linears and m.pattern.endswith(".weight"))
    total = sum(m.params for m in modules)
    return ModelFacts(
        **_dimensions(name, path, config),
        tie_word_embeddings=tied,
        mlp_gated=any("gate" in m.pattern for m in modules),
        params_total=total,
        params_active=total,
        params_routed_experts=0,
        fused_experts=any(len(m.shape) == 3 for m in modules),
        modules=modules,
        lora_linears=linears,
        bnb_params=quantizable,
        embedding=embedding.module,
        head=next((m.module for m in modules if _HEADS.match(m.module)), "lm_head"),
        sources=("config.json and safetensors headers of the folder",),
    )


def _class_of(pattern: str, shape: tuple[int, ...]) -> str:
    module, _, parameter = pattern.rpartition(".")
    if len(shape) == 2 and parameter == "weight":
        return "Embedding" if _EMBEDDINGS.search(module) else "Linear"
    return "Norm" if len(shape) == 1 and "norm" in module else "Parameter"


def _dimensions(name: str, path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    heads = int(config.get("num_attention_heads") or 1)
    hidden = int(config["hidden_size"])
    architecture = (config.get("architectures") or ["AutoModelForCausalLM"])[0]
    experts = config.get("num_experts") or config.get("num_local_experts")
    return {
        "id": name,
        "model_type": str(config["model_type"]),
        "architecture": str(architecture),
        "layer_class": _layer_class(str(architecture)),
        "hidden_size": hidden,
        "intermediate_size": int(config.get("intermediate_size") or 4 * hidden),
        "num_hidden_layers": int(config["num_hidden_layers"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or hidden // heads),
        "vocab_size": int(config["vocab_size"]),
        "max_position_embeddings": config.get("max_position_embeddings"),
        "sliding_window": config.get("sliding_window"),
        "is_multimodal": "text_config" in config,
        "num_experts": experts,
        "experts_per_token": config.get("num_experts_per_tok"),
        "chat_template": _has_template(path),
        "chat_template_family": None,
        "gated": False,
        "local_folder": name,
    }


def _layer_class(architecture: str) -> str:
    return re.sub(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$", "", architecture) + "DecoderLayer"


def _has_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file():
        return True
    config = path / "tokenizer_config.json"
    return config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8", errors="replace")


def _from_catalog(name: str, path: Path, config: Mapping[str, Any]) -> ModelFacts | None:
    keys = (
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "intermediate_size",
    )
    for known in model_names():
        facts = load_catalog(known)
        if facts and all(getattr(facts, key) == config.get(key) for key in keys):
            return replace(facts, id=name, local_folder=name, chat_template=_has_template(path), gated=False)
    return None
