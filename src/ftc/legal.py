"""Which strategies and offloads can work: asked by the rules (what is written) and the planner (what is open)."""

from typing import Literal, NamedTuple, assert_never

from ftc.facts import Target
from ftc.settings import Settings

Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp2"]
Offload = Literal["none", "optimizer", "params"]
STRATEGIES: tuple[Strategy, ...] = ("single", "ddp", "zero1", "zero2", "fsdp2", "zero3")
OFFLOADS: tuple[Offload, ...] = ("none", "optimizer", "params")

OFFLOAD_OPTIMIZERS = frozenset(("adamw_torch", "adamw_torch_fused"))
EIGHT_BIT = frozenset(
    ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "lion_8bit", "paged_lion_8bit", "rmsprop_bnb_8bit",
     "ademamix_8bit", "paged_ademamix_8bit")
)  # fmt: skip


class Conflict(NamedTuple):
    """Why something cannot work: the diagnostic's code and a phrase."""

    code: str
    reason: str


def shards_weights(strategy: Strategy) -> bool:
    """Returns whether each rank keeps only its share of the weights."""
    return strategy in ("zero3", "fsdp2")


def uses_deepspeed(strategy: Strategy) -> bool:
    return strategy in ("zero1", "zero2", "zero3")


def strategy_conflict(strategy: Strategy, settings: Settings, target: Target) -> Conflict | None:
    """Returns why `strategy` cannot work here, or None."""
    if strategy == "single" and target.world_size > 1:
        return Conflict("FTC302", f"`single` uses one GPU, the target has {target.world_size}")
    if strategy in ("ddp", "fsdp2") and target.world_size == 1:
        return Conflict("FTC302", f"`{strategy}` shares work between GPUs, the target has one")
    match strategy:
        case "single" | "ddp":
            return None
        case "zero1" | "zero2":
            return _deepspeed_conflict(settings, target)
        case "zero3":
            return _zero3_conflict(settings) or _deepspeed_conflict(settings, target)
        case "fsdp2":
            return _fsdp_conflict(settings, target) or _dora_conflict("FSDP2", settings)
        case _:
            assert_never(strategy)


def _deepspeed_conflict(settings: Settings, target: Target) -> Conflict | None:
    if target.gpu.vendor not in ("nvidia", "cpu"):
        return Conflict("FTC304", f"the pinned DeepSpeed is built for NVIDIA GPUs, {target.gpu.name} is none")
    return _cpu_conflict("DeepSpeed", settings, target)


def _zero3_conflict(settings: Settings) -> Conflict | None:
    if settings.quantization is not None:
        return Conflict("FTC303", "ZeRO-3 cannot partition weights that bitsandbytes has quantized")
    return _dora_conflict("ZeRO-3", settings)


def _cpu_conflict(engine: str, settings: Settings, target: Target) -> Conflict | None:
    if target.gpu.is_cpu and settings.precision != "fp32":
        return Conflict("FTC305", f"{engine} on a CPU runs in float32 only, not in `{settings.precision}`")
    return None


def _dora_conflict(engine: str, settings: Settings) -> Conflict | None:
    if settings.adapter is not None and settings.adapter.kind == "dora":
        return Conflict("FTC308", f"DoRA reads whole weights, which {engine} keeps in pieces")
    return None


def _fsdp_conflict(settings: Settings, target: Target) -> Conflict | None:
    if settings.quantization is not None and settings.quantization.bits == 8:
        return Conflict("FTC306", "FSDP2 cannot shard weights in LLM.int8 form")
    if settings.optimizer in EIGHT_BIT:
        return Conflict("FTC307", f"`{settings.optimizer}` keeps its states in blocks that FSDP2 cannot shard")
    if settings.new_tokens and settings.adapter:
        return Conflict("FTC309", "the whole copies that train new tokens are not sharded right under FSDP2")
    return _cpu_conflict("FSDP2", settings, target)


def _parameter_offload_conflict(strategy: Strategy, settings: Settings, target: Target) -> Conflict | None:
    if not shards_weights(strategy):
        return Conflict("FTC310", f"`{strategy}` keeps whole weights; zero3 and fsdp2 can offload them")
    if settings.quantization is not None:
        return Conflict("FTC311", "quantized weights cannot be offloaded")
    if strategy == "fsdp2" and target.gpu.is_cpu:
        return Conflict("FTC310", "FSDP2 offloads from a GPU, the target has none")
    return None


def offload_conflict(offload: Offload, strategy: Strategy, settings: Settings, target: Target) -> Conflict | None:
    """Returns why `offload` cannot work with `strategy`, or None."""
    if offload != "none" and target.gpu.is_cpu and target.world_size == 1:
        return Conflict("FTC310", "offload moves states from a GPU to its host; a single CPU process has nowhere to go")
    match offload:
        case "none":
            return None
        case "optimizer":
            if not uses_deepspeed(strategy):
                return Conflict("FTC310", f"`{strategy}` has no optimizer offload; zero1, zero2 and zero3 have")
        case "params":
            conflict = _parameter_offload_conflict(strategy, settings, target)
            if conflict is not None:
                return conflict
        case _:
            assert_never(offload)
    if uses_deepspeed(strategy) and settings.optimizer not in OFFLOAD_OPTIMIZERS:
        return Conflict("FTC312", f"with offload DeepSpeed replaces `{settings.optimizer}` by its own AdamW silently")
    return None
