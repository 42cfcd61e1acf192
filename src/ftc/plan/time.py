"""How long a step takes: compute, dequantization, communication, optimizer. A stated range, not a promise.

The closed form and its constants are those of public training tables; see `constants.toml` for each source.
"""

from math import ceil
from typing import NamedTuple

from ftc.facts import Facts, load_constants
from ftc.legal import shards_weights
from ftc.plan.candidates import Candidate
from ftc.plan.states import count_parameters
from ftc.settings import Settings


class Duration(NamedTuple):
    """Seconds of one optimizer step and hours of the run; None where rows or hardware are not known."""

    step_seconds: float | None
    tokens_per_second_per_gpu: float | None
    steps: int | None
    hours: float | None
    low_hours: float | None
    high_hours: float | None
    rows: int | None


def estimate_time(facts: Facts, settings: Settings, candidate: Candidate) -> Duration:
    """Returns the expected duration of `candidate`."""
    assert facts.target is not None
    rows = count_rows(facts, settings)
    steps = count_steps(settings, rows)
    seconds = step_seconds(facts, settings, candidate)
    if seconds is None:
        return Duration(
            step_seconds=None,
            tokens_per_second_per_gpu=None,
            steps=steps,
            hours=None,
            low_hours=None,
            high_hours=None,
            rows=rows,
        )
    tokens = settings.global_batch * settings.max_length / facts.target.world_size
    hours = seconds * steps / 3600 if steps is not None else None
    constants = load_constants().time
    return Duration(
        step_seconds=seconds,
        tokens_per_second_per_gpu=tokens / seconds,
        steps=steps,
        hours=hours,
        low_hours=hours * constants["low_factor"] if hours is not None else None,
        high_hours=hours * constants["high_factor"] if hours is not None else None,
        rows=rows,
    )


def count_rows(facts: Facts, settings: Settings) -> int | None:
    """Returns the training rows per epoch, packed where packing is on; None where a source is not local."""
    total = 0.0
    texts = 0.0
    for (part, index), files in facts.data.files.items():
        if part != "train":
            continue
        rows = facts.data.rows(part, index)
        if rows is None:
            return None
        weight = facts.data.weights.get(index, 1.0)
        total += round(rows * weight)
        texts += sum(f.text_bytes or 0 for f in files) * weight
    if not total:
        return None
    kept = 1 - (settings.eval_fraction or 0)
    if settings.packing:
        tokens: float = texts / load_constants().time["bytes_per_token"]
        return max(1, ceil(tokens * kept / settings.max_length))
    return max(1, int(total * kept))


def count_steps(settings: Settings, rows: int | None) -> int | None:
    """Returns the optimizer steps of the run, or None where the rows are not known."""
    if settings.max_steps is not None:
        return settings.max_steps
    return max(1, ceil(ceil(rows / settings.global_batch) * settings.epochs)) if rows is not None else None


def step_seconds(facts: Facts, settings: Settings, candidate: Candidate) -> float | None:
    """Returns the seconds of one optimizer step, or None where the GPU's speed is not known."""
    assert facts.target is not None
    peak = facts.target.gpu.dense_tflops.get("bf16" if facts.target.gpu.bf16 else "fp16")
    bandwidth = facts.target.gpu.hbm_bandwidth_bytes_per_s
    if not peak or not bandwidth:
        return None
    compute = _compute_seconds(facts, settings, candidate, peak * 1e12, bandwidth)
    dequantize = _dequantize_seconds(facts, settings, candidate)
    communicate = _communication_seconds(facts, settings, candidate)
    overlap: float = load_constants().time["overlap"]
    micro = compute + dequantize
    exposed = max(0.0, communicate - micro) + overlap * min(communicate, micro) * 0.5
    return candidate.gradient_accumulation * (micro + exposed) + _optimizer_seconds(
        facts, settings, candidate, bandwidth
    )


def _compute_seconds(facts: Facts, settings: Settings, candidate: Candidate, peak: float, bandwidth: float) -> float:
    assert facts.target is not None
    time, model = load_constants().time, facts.model
    tokens = candidate.micro_batch * settings.max_length
    recompute = 1 if candidate.gradient_checkpointing else 0
    adapter_only = 1 if settings.adapter else 0
    moving = model.params_active - model.embedding_params
    linear = 2 * moving * tokens * (3 - adapter_only + recompute)
    attention = 2 * model.num_hidden_layers * model.hidden_size * settings.max_length * tokens * (3 + recompute)
    family = facts.target.gpu.arch if facts.target.gpu.arch in time["matmul_efficiency"] else "other"
    passes = time["elementwise_passes"] * model.num_hidden_layers * model.hidden_size * tokens * (3 + recompute) / 3
    kernels = linear / (peak * time["matmul_efficiency"][family]) + attention / (
        peak * time["attention_efficiency"][family]
    )
    launch = time["launch_seconds_per_layer"] * model.num_hidden_layers
    return float(max(time["eager_factor"] * kernels + passes / bandwidth, launch))


def _dequantize_seconds(facts: Facts, settings: Settings, candidate: Candidate) -> float:
    if settings.quantization is None or settings.quantization.bits != 4:
        return 0.0
    time = load_constants().time
    factor = time["double_quant_factor"] if settings.quantization.double else 1.0
    passes = 3 if candidate.gradient_checkpointing else 2
    return float(passes * facts.model.bnb_params * factor / time["dequantize_params_per_s"])


def _communication_seconds(facts: Facts, settings: Settings, candidate: Candidate) -> float:
    """Returns seconds per micro step: gathered weights each time, gradients once per optimizer step."""
    assert facts.target is not None
    target, time = facts.target, load_constants().time
    ranks = target.world_size
    if ranks == 1 and candidate.offload == "none":
        return 0.0
    link = target.gpu.inter_node_bytes_per_s if target.nodes > 1 else target.gpu.link_bytes_per_s
    rate = (link or time["pcie_bytes_per_s"]) * time["communication_efficiency"]
    counts = count_parameters(facts, settings)
    unit = 4 if settings.precision == "fp32" else 2
    stored = 0.52 if settings.quantization else unit
    seconds = 0.0
    if ranks > 1:
        gradients = counts.trainable * unit * (1 if shards_weights(candidate.strategy) else 2)
        gathers = 2 * counts.base * stored if shards_weights(candidate.strategy) else 0
        per_step = gradients / (1 if shards_weights(candidate.strategy) else candidate.gradient_accumulation)
        seconds += (gathers + per_step) * (ranks - 1) / ranks / rate
    if candidate.offload == "params":
        seconds += (
            2 * counts.base * stored / (ranks if shards_weights(candidate.strategy) else 1) / time["pcie_bytes_per_s"]
        )
    return float(seconds)


def _optimizer_seconds(facts: Facts, settings: Settings, candidate: Candidate, bandwidth: float) -> float:
    assert facts.target is not None
    time = load_constants().time
    sharded = candidate.strategy in ("zero1", "zero2", "zero3", "fsdp2")
    share = facts.target.world_size if sharded else 1
    trained = count_parameters(facts, settings).trainable / share
    if candidate.offload == "none":
        return float(trained * time["optimizer_bytes_per_param"] / bandwidth)
    per_node = trained * facts.target.gpus_per_node
    return float(per_node / time["cpu_adam_params_per_s"] + 4 * trained / time["pcie_bytes_per_s"])
