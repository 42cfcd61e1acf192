"""Model states of one rank: weights, adapter, gradients, optimizer; on the GPU or in host memory."""

from typing import Literal, NamedTuple, assert_never

from ftc.facts import Facts, ModuleFacts, load_constants, matches_target
from ftc.legal import EIGHT_BIT, shards_weights, uses_deepspeed
from ftc.plan.candidates import Candidate
from ftc.settings import Settings

OptimizerFamily = Literal["adam", "adam8bit", "paged", "single", "factored", "none"]
_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_SINGLE_STATE = ("lion", "rmsprop", "adagrad")
_FACTORED = ("adafactor",)
_NO_STATE = ("sgd",)


class Counts(NamedTuple):
    """Parameter counts: the base, what bitsandbytes quantizes of it, the adapter, whole copies that are trained."""

    base: int
    quantized: int
    adapter: int
    saved: int
    trainable: int


class States(NamedTuple):
    """Bytes of the model states: on the GPU of each rank, and in host memory of each rank."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    optimizer_temporary: int
    host: int
    working_bytes: int  # of one trained parameter as the layers compute with it
    weight_bytes: int  # of one parameter of the base where it is not quantized


def dtype_bytes(dtype: str) -> int:
    return _DTYPE_BYTES[dtype]


def target_modules(facts: Facts, settings: Settings) -> tuple[ModuleFacts, ...]:
    """Returns the linear modules that the adapter sits on."""
    if settings.adapter is None:
        return ()
    linears, targets = facts.model.linears, settings.adapter.targets
    if targets == "all-linear":
        return linears
    names = (targets,) if isinstance(targets, str) else targets
    return tuple(m for m in linears if any(matches_target(m.module, t) for t in names))


def count_parameters(facts: Facts, settings: Settings) -> Counts:
    """Returns what there is to store and what of it is trained, new tokens included."""
    model = facts.model
    token_rows = len(settings.new_tokens) * model.hidden_size * (1 if model.tie_word_embeddings else 2)
    base = model.params_total + token_rows
    if settings.adapter is None:
        return Counts(base=base, quantized=0, adapter=0, saved=0, trainable=base)
    adapter = sum(_adapter_params(m, settings) for m in target_modules(facts, settings))
    saved = sum(m.params for m in model.modules if m.module.rpartition(".")[2] in settings.adapter.modules_to_save)
    if saved and settings.new_tokens:
        saved += token_rows
    quantized = model.bnb_params if settings.quantization else 0
    return Counts(base=base, quantized=quantized, adapter=adapter, saved=saved, trainable=adapter + saved)


def _adapter_params(module: ModuleFacts, settings: Settings) -> int:
    assert settings.adapter is not None
    out_features, in_features = module.shape[0], module.shape[-1]
    magnitude = out_features if settings.adapter.kind == "dora" else 0
    return (settings.adapter.r * (in_features + out_features) + magnitude) * module.count


def optimizer_family(optimizer: str) -> OptimizerFamily:
    if optimizer.startswith("paged_"):
        return "paged"
    if optimizer in EIGHT_BIT:
        return "adam8bit"
    for names, family in ((_NO_STATE, "none"), (_FACTORED, "factored"), (_SINGLE_STATE, "single")):
        if optimizer.startswith(names):
            return family  # type: ignore[return-value]
    return "adam"


def state_bytes_per_param(optimizer: str, working_bytes: float) -> float:
    """Returns the optimizer's bytes a parameter; torch keeps its states in the parameter's own dtype."""
    family = optimizer_family(optimizer)
    match family:
        case "adam":
            return 2 * working_bytes
        case "adam8bit":
            return load_constants().memory["adam8bit_bytes_per_param"]
        case "paged" | "none":
            return 0.0
        case "single":
            return working_bytes
        case "factored":
            return 0.02 * working_bytes  # one row and one column of each matrix
        case _:
            assert_never(family)


def budget_states(facts: Facts, settings: Settings, candidate: Candidate) -> States:
    """Returns the model states of one rank."""
    assert facts.target is not None
    counts = count_parameters(facts, settings)
    if uses_deepspeed(candidate.strategy):
        return _deepspeed_states(counts, settings, candidate, facts.target.world_size)
    return _torch_states(facts, counts, settings, candidate, facts.target.world_size)


def _weight_bytes(counts: Counts, settings: Settings, dense_bytes: float) -> float:
    """Returns the bytes of the base's weights, quantized where they are; whole, not a rank's share."""
    memory = load_constants().memory
    quantization = settings.quantization
    if quantization is None:
        return counts.base * dense_bytes
    if quantization.bits == 8:
        per_param = memory["int8_bytes_per_param"]
    else:
        per_param = memory["nf4_double_bytes_per_param" if quantization.double else "nf4_bytes_per_param"]
    return counts.quantized * per_param + (counts.base - counts.quantized) * dense_bytes


def _torch_states(facts: Facts, counts: Counts, settings: Settings, candidate: Candidate, ranks: int) -> States:
    dense = dtype_bytes(settings.dtype)
    share = ranks if shards_weights(candidate.strategy) else 1
    working = _trained_bytes(settings, candidate)
    is_full = settings.adapter is None
    weights = counts.base * working if is_full else _weight_bytes(counts, settings, dense)
    adapter = 0 if is_full else counts.trainable * working
    gradients = counts.trainable * working
    optimizer = counts.trainable * state_bytes_per_param(settings.optimizer, working)
    if optimizer_family(settings.optimizer) == "adam8bit":
        optimizer += _embedding_states(facts, counts, settings)
    host = 0.0
    if candidate.offload == "params":
        host, weights, adapter, optimizer = weights + adapter + optimizer, 0, 0, 0
    foreach = settings.optimizer == "adamw_torch" and not facts.target.gpu.is_cpu if facts.target else False
    return States(
        weights=int(weights / share),
        adapter=int(adapter / share),
        gradients=int(gradients / share),
        optimizer=int(optimizer / share),
        optimizer_temporary=int(counts.trainable * working / share) if foreach else 0,
        host=int(host / share),
        working_bytes=working,
        weight_bytes=dense,
    )


def _embedding_states(facts: Facts, counts: Counts, settings: Settings) -> float:
    """Returns what bitsandbytes adds because transformers keeps embeddings' states in 32 bits: 8 bytes, not 2."""
    trained_whole = settings.adapter is None or counts.saved > 0
    extra = 8 - load_constants().memory["adam8bit_bytes_per_param"]
    return facts.model.embedding_params * extra if trained_whole else 0.0


def _trained_bytes(settings: Settings, candidate: Candidate) -> int:
    """Returns the bytes of a trained parameter outside DeepSpeed."""
    if candidate.strategy == "fsdp2" and settings.precision != "fp32":
        return 4  # accelerate casts every trained parameter up
    if settings.adapter is None:
        return dtype_bytes(settings.dtype)
    return 2 if settings.quantization else 4  # TRL casts adapters on quantized bases to bfloat16; PEFT keeps float32


def _deepspeed_states(counts: Counts, settings: Settings, candidate: Candidate, ranks: int) -> States:
    half = settings.precision != "fp32"
    working = 2 if half else 4
    weight_share = ranks if candidate.strategy == "zero3" else 1
    gradient_share = 1 if candidate.strategy == "zero1" else ranks
    is_full = settings.adapter is None
    weights = counts.base * working if is_full else _weight_bytes(counts, settings, working)
    adapter = 0.0 if is_full else counts.trainable * working
    gradients = counts.trainable * working / gradient_share
    # DeepSpeed keeps a float32 copy of what it trains beside the states, in every precision.
    optimizer = counts.trainable * (4 + state_bytes_per_param(settings.optimizer, 4)) / ranks
    weights, adapter = weights / weight_share, adapter / weight_share
    host = 0.0
    if candidate.offload != "none":
        host += optimizer + counts.trainable * 4 / ranks
        optimizer = 0.0
        gradients = gradients if candidate.strategy == "zero1" else 0.0
    if candidate.offload == "params":
        host += weights + adapter
        weights, adapter = 0.0, 0.0
    return States(
        weights=int(weights),
        adapter=int(adapter),
        gradients=int(gradients),
        optimizer=int(optimizer),
        optimizer_temporary=0,
        host=int(host),
        working_bytes=working,
        weight_bytes=working,
    )
