"""The memory of one rank: the peak over the phases of a step, each a sum of named components. Pure arithmetic."""

from collections.abc import Mapping
from typing import NamedTuple

from ftc.facts import Facts, load_constants
from ftc.plan.activations import Activations, budget_activations
from ftc.plan.candidates import Candidate
from ftc.plan.states import States, budget_states, count_parameters, dtype_bytes
from ftc.settings import Settings

COMPONENTS = (
    "weights",
    "adapter",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "communication",
    "runtime",
)
PHASES = ("load", "forward", "loss", "backward", "optimizer step", "evaluation", "save")
Parts = Mapping[str, int]


class Budget(NamedTuple):
    """Bytes of one rank. `phases` holds the allocator's parts by phase; `peak_bytes` adds what torch does not count.

    `low_bytes` and `high_bytes` bound the peak; a plan fits where `high_bytes` does.
    """

    phases: Mapping[str, Parts]
    peak_phase: str
    components: Parts
    allocated_bytes: int
    peak_bytes: int
    low_bytes: int
    high_bytes: int
    host_bytes_per_node: int
    disk_bytes: int


class _Communication(NamedTuple):
    forward: int
    backward: int


def budget_memory(facts: Facts, settings: Settings, candidate: Candidate) -> Budget:
    """Returns the memory budget of one rank of `candidate`."""
    assert facts.target is not None
    states = budget_states(facts, settings, candidate)
    activations = budget_activations(facts, settings, candidate, states)
    buffers = _communication(facts, settings, candidate, states)
    phases = _phases(facts, settings, candidate, states, activations, buffers)
    totals = {phase: sum(parts.values()) for phase, parts in phases.items()}
    peak_phase = max(PHASES, key=lambda phase: totals[phase])
    allocated = totals[peak_phase]
    low, expected, high = _outside_torch(facts, allocated)
    return Budget(
        phases=phases,
        peak_phase=peak_phase,
        components={name: phases[peak_phase].get(name, 0) for name in COMPONENTS[:-1]} | {"runtime": expected},
        allocated_bytes=allocated,
        peak_bytes=allocated + expected,
        low_bytes=allocated + low,
        high_bytes=allocated + high,
        host_bytes_per_node=_host_bytes(facts, settings, candidate, states),
        disk_bytes=_disk_bytes(facts, settings),
    )


def _phases(
    facts: Facts,
    settings: Settings,
    candidate: Candidate,
    states: States,
    activations: Activations,
    buffers: _Communication,
) -> dict[str, Parts]:
    kept = {"weights": states.weights, "adapter": states.adapter, "optimizer": states.optimizer}
    carried = states.gradients if candidate.gradient_accumulation > 1 else 0
    gathered = {"communication": buffers.forward}
    forward = {**kept, "gradients": carried, "activations": activations.saved + activations.cast_weights}
    largest = _largest_tensor(facts, settings)
    backward = _backward(facts, settings, forward, states, activations) | {"communication": buffers.backward}
    return {
        "load": {"weights": states.weights, "adapter": states.adapter, "activations": largest},
        "forward": forward | gathered,
        "loss": forward | gathered | {"logits": activations.head},
        "backward": backward,
        "optimizer step": {**kept, "gradients": states.gradients, "activations": states.optimizer_temporary},
        "evaluation": kept | gathered | {"activations": activations.layer_work, "logits": activations.head},
        "save": kept | {"communication": largest},
    }


def _backward(
    facts: Facts, settings: Settings, forward: dict[str, int], states: States, activations: Activations
) -> dict[str, int]:
    """Returns the larger of backward's two ends: all activations and no new gradient, or all gradients.

    In between activations go and gradients come, both linearly, so no layer in the middle needs more.
    """
    embedding = _embedding_gradient(facts, settings, states)
    start = {**forward, "activations": forward["activations"] + activations.layer_work}
    last_layer = activations.layer_work - _embedding_share(facts, states)
    end = {**forward, "gradients": states.gradients, "activations": max(embedding, last_layer)}
    return max(start, end, key=lambda parts: sum(parts.values()))


def _embedding_share(facts: Facts, states: States) -> int:
    """Returns the gradient of the embedding, which does not exist yet while the first layer works."""
    trained = states.gradients > facts.model.embedding_params * states.working_bytes
    return facts.model.embedding_params * states.working_bytes if trained else 0


def _embedding_gradient(facts: Facts, settings: Settings, states: States) -> int:
    """Returns what a tied embedding needs at the end of backward: two dense gradients and their sum."""
    if settings.adapter is None and facts.model.tie_word_embeddings:
        return 2 * facts.model.embedding_params * states.working_bytes
    return 0


def _largest_tensor(facts: Facts, settings: Settings) -> int:
    largest = max(m.params // max(1, m.count) for m in facts.model.modules)
    return largest * dtype_bytes(settings.dtype)


def _communication(facts: Facts, settings: Settings, candidate: Candidate, states: States) -> _Communication:
    """Returns the gathered weights and the buckets of one rank, which do not shrink with more ranks."""
    assert facts.target is not None
    if facts.target.world_size == 1:
        return _Communication(forward=0, backward=0)
    model, trainable = facts.model, count_parameters(facts, settings).trainable
    unit = 4 if settings.precision == "fp32" else 2
    layer = model.layer_params * _stored_bytes(facts, settings, states)
    root = model.embedding_params * unit * (1 if model.tie_word_embeddings else 2)
    match candidate.strategy:
        case "single":
            return _Communication(forward=0, backward=0)
        case "ddp":
            bucket = trainable * states.working_bytes
            return _Communication(forward=bucket, backward=bucket)
        case "zero1" | "zero2":
            bucket = int(load_constants().memory["deepspeed_bucket_elements"])
            size = 2 * min(bucket, trainable) * unit
            return _Communication(forward=size, backward=size + min(bucket, trainable) * unit)
        case "zero3":
            gathered = int(2 * layer) + root
            return _Communication(forward=gathered, backward=gathered + 2 * model.hidden_size**2 * unit)
        case "fsdp2":
            gathered = int(3 * layer) + root
            reduced = 4 * model.layer_params if settings.adapter is None else 4 * trainable // model.num_hidden_layers
            return _Communication(forward=gathered, backward=gathered + reduced)


def _stored_bytes(facts: Facts, settings: Settings, states: States) -> float:
    """Returns the bytes that gathering one parameter of a layer moves: half precision, or its quantized form."""
    if settings.quantization is not None:
        counts = count_parameters(facts, settings)
        return states.weights / max(1, counts.base)
    return 4 if settings.precision == "fp32" else 2


def _outside_torch(facts: Facts, allocated: int) -> tuple[int, int, int]:
    """Returns (low, expected, high) of what torch's allocator does not count: context, NCCL, cuBLAS, fragmentation."""
    assert facts.target is not None
    memory = load_constants().memory
    if facts.target.gpu.is_cpu:
        fixed = (0.0, 0.0, 0.0)
    else:
        workspace = memory["cublas_workspace_bytes"] * memory["cublas_streams"]
        several = facts.target.world_size > 1
        fixed = tuple(  # type: ignore[assignment]
            memory[f"context{bound}_bytes"] + workspace + (memory[f"nccl{bound}_bytes"] if several else 0)
            for bound in ("_low", "", "_high")
        )
    low = fixed[0] + allocated * (memory["fragmentation_low"] - memory["model_error"])
    expected = fixed[1] + allocated * memory["fragmentation"]
    high = fixed[2] + allocated * (memory["fragmentation_high"] + memory["model_error"])
    return int(low), int(expected), int(high)


def _host_bytes(facts: Facts, settings: Settings, candidate: Candidate, states: States) -> int:
    """Returns host memory of one node: processes, offloaded states with their pinned copies, weights while loading."""
    assert facts.target is not None
    memory, ranks = load_constants().memory, facts.target.gpus_per_node
    model_bytes = facts.model.params_total * dtype_bytes(settings.dtype)
    loads_whole = settings.quantization is None and candidate.strategy in ("ddp", "zero1", "zero2", "single")
    loading = model_bytes * (ranks if loads_whole else 1)
    offloaded = states.host * memory["host_pinned_factor"] * ranks
    return int(ranks * memory["host_fixed_bytes"] + max(loading, offloaded))


def _disk_bytes(facts: Facts, settings: Settings) -> int:
    """Returns disk for the base, the kept checkpoints (weights and two float32 states), the result and the merge."""
    counts = count_parameters(facts, settings)
    base = facts.model.params_total * 2
    checkpoint = counts.trainable * (dtype_bytes(settings.dtype) + 8)
    result = counts.trainable * 4 + (base if settings.merge else 0)
    return int(base + (settings.keep + 1) * checkpoint + result)
