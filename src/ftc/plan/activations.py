"""What a forward pass leaves behind for the backward pass, in bytes, and the working space of one layer and the head.

Coefficients were read off storages that real transformers, PEFT and TRL code allocates under fake tensors; a
Llama-3.1-8B layer in bfloat16 keeps 49.03 hidden units of bytes a token, which the terms below add up to.
"""

from typing import NamedTuple

from ftc.facts import Facts, load_constants
from ftc.plan.candidates import Candidate
from ftc.plan.states import States, target_modules
from ftc.settings import Settings

_EAGER_SCORE_BYTES = 8  # bf16 scores, their float32 softmax, its bf16 copy
_MASK_BYTES = 3  # a boolean mask of all pairs and its bf16 form


class Activations(NamedTuple):
    """Bytes: kept by all layers until backward; the extra of the one layer in work; the LM head's buffers."""

    saved: int
    layer_work: int
    head: int
    cast_weights: int


def budget_activations(facts: Facts, settings: Settings, candidate: Candidate, states: States) -> Activations:
    """Returns the activations of one micro batch on one rank."""
    tokens = candidate.micro_batch * settings.max_length
    layers = facts.model.num_hidden_layers
    per_token = _layer_bytes_per_token(facts, settings, states)
    mask = _mask_bytes(settings, candidate)
    stream = _stream_bytes(settings, states) * facts.model.hidden_size
    whole_layer = per_token * tokens
    saved = (stream * tokens if candidate.gradient_checkpointing else whole_layer) * layers
    recomputed = whole_layer if candidate.gradient_checkpointing else 0
    return Activations(
        saved=int(saved + mask),
        layer_work=int(recomputed + _backward_bytes_per_token(facts) * tokens),
        head=_head_bytes(facts, settings, tokens),
        cast_weights=_cast_weight_bytes(facts, settings, candidate, states),
    )


def _autocast_from_float32(settings: Settings, states: States) -> bool:
    return settings.precision != "fp32" and settings.adapter is None and states.working_bytes == 4


def _stream_bytes(settings: Settings, states: States) -> int:
    """Returns the bytes of one element of the residual stream."""
    return 4 if settings.precision == "fp32" or (settings.dtype == "float32" and states.working_bytes == 4) else 2


def _layer_bytes_per_token(facts: Facts, settings: Settings, states: States) -> float:
    model = facts.model
    unit = 4 if settings.precision == "fp32" else 2
    hidden, queries = model.hidden_size, model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    attention = unit * (2 * queries + 2 * keys) + 4 * model.num_attention_heads
    if settings.attention == "eager":
        attention += _EAGER_SCORE_BYTES * model.num_attention_heads * settings.max_length
    elif settings.attention == "sdpa" and not settings.packing:
        attention += unit * 2 * (queries - keys)  # a padding mask makes sdpa repeat the keys and values
    width = _mlp_width(facts)
    kept_in_mlp = (3 if model.mlp_gated else 1) * unit * width
    norms = 2 * 4 * hidden
    if settings.adapter is not None:
        return norms + attention + kept_in_mlp + _adapter_bytes_per_token(facts, settings, states, unit)
    normalised = 2 * unit * hidden  # for the gradient of the norms' weights
    inputs = 2 * unit * hidden + unit * width
    if _autocast_from_float32(settings, states):
        inputs += 10 * hidden  # every linear layer casts the float32 input for itself
    return norms + normalised + attention + kept_in_mlp + inputs


def _mlp_width(facts: Facts) -> float:
    """Returns the width of the MLP that one token passes through, all of its experts together."""
    model = facts.model
    if not model.is_moe:
        return float(model.intermediate_size or 4 * model.hidden_size)
    experts = model.num_experts or 1
    per_expert = model.params_routed_experts / max(1, model.num_hidden_layers * experts * 3 * model.hidden_size)
    return float((model.experts_per_token or 1) * (per_expert or model.intermediate_size or model.hidden_size))


def _adapter_bytes_per_token(facts: Facts, settings: Settings, states: States, unit: int) -> float:
    """Returns what LoRA keeps: its inputs (a frozen layer keeps none) and the outputs of A."""
    assert settings.adapter is not None
    layers = max(1, facts.model.num_hidden_layers)
    modules = target_modules(facts, settings)
    in_features = sum(m.shape[-1] * m.count for m in modules) / layers
    ranks = settings.adapter.r * sum(m.count for m in modules) / layers
    kept = in_features * unit if states.working_bytes == 4 else _shared_inputs(facts, settings) * unit
    if settings.adapter.dropout > 0:
        kept += in_features * 4
    if settings.adapter.kind == "dora":
        kept += sum(m.shape[0] * m.count for m in modules) / layers * 2 * unit
    return kept + ranks * unit


def _shared_inputs(facts: Facts, settings: Settings) -> float:
    """Returns the widths of distinct inputs: bf16 adapters on one input share it; attention keeps its output anyway."""
    names = {m.module.rpartition(".")[2] for m in target_modules(facts, settings)}
    hidden = facts.model.hidden_size
    first = hidden if names & {"q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn"} else 0
    second = hidden if names & {"gate_proj", "up_proj", "gate_up_proj", "fc1", "c_fc"} else 0
    last = _mlp_width(facts) if names & {"down_proj", "fc2"} else 0
    return first + second + last


def _backward_bytes_per_token(facts: Facts) -> float:
    """Returns the gradients and kernel scratch of one layer's backward pass, the larger of its two halves."""
    model = facts.model
    queries = model.num_attention_heads * model.head_dim
    attention = 4 * queries + 2 * 5 * queries + 4 * model.num_attention_heads + 4 * model.hidden_size
    mlp = 2 * 3 * _mlp_width(facts) + 8 * model.hidden_size
    return max(attention, mlp)


def _mask_bytes(settings: Settings, candidate: Candidate) -> float:
    """Returns the mask of all token pairs that sdpa and eager need to keep packed samples apart."""
    if not settings.packing or settings.attention not in ("sdpa", "eager"):
        return 0.0
    return float(_MASK_BYTES * (candidate.micro_batch * settings.max_length) ** 2)


def _head_bytes(facts: Facts, settings: Settings, tokens: int) -> int:
    """Returns the buffers of TRL's fused LM head: it never builds all logits (trl 1.16, kernels/chunked_logprob.py)."""
    memory, model = load_constants().memory, facts.model
    unit = 4 if settings.precision == "fp32" else 2
    rows = min(tokens, memory["fused_head_tile_rows"])
    tile = rows * min(model.vocab_size, memory["fused_head_tile_columns"]) * unit
    per_token = 4 * memory["fused_head_vectors"] + model.hidden_size * (unit + 4)
    trains_head = settings.adapter is None or bool(settings.adapter.modules_to_save)
    head_gradient = model.embedding_params * (4 + unit) if trains_head else 0
    return int(tile + per_token * tokens + head_gradient)


def _cast_weight_bytes(facts: Facts, settings: Settings, candidate: Candidate, states: States) -> int:
    """Returns the half-precision copies that autocast keeps of float32 weights until the forward pass ends."""
    if not _autocast_from_float32(settings, states) or candidate.strategy in (
        "fsdp2",
        "zero1",
        "zero2",
        "zero3",
    ):
        return 0
    linear = sum(m.params for m in facts.model.linears)
    return 2 * linear
