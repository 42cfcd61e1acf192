"""Every way to run the recipe on the target that is legal, before any is costed."""

from collections.abc import Iterator
from typing import NamedTuple

from ftc.facts import Target
from ftc.legal import OFFLOADS, STRATEGIES, Offload, Strategy, offload_conflict, strategy_conflict
from ftc.recipe import PlanTable
from ftc.settings import Settings


class Candidate(NamedTuple):
    """One way to run: `micro_batch * gradient_accumulation * GPUs` is the global batch."""

    strategy: Strategy
    micro_batch: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    offload: Offload


def list_candidates(pinned: PlanTable, settings: Settings, target: Target) -> Iterator[Candidate]:
    """Yields all legal candidates; what the recipe pins stays as it is written."""
    strategies = (pinned.strategy,) if pinned.strategy else STRATEGIES
    offloads = (pinned.offload,) if pinned.offload else OFFLOADS
    checkpointing = (False, True) if pinned.gradient_checkpointing is None else (pinned.gradient_checkpointing,)
    for strategy in strategies:
        if strategy_conflict(strategy, settings, target):
            continue
        for offload in offloads:
            if offload_conflict(offload, strategy, settings, target):
                continue
            if target.world_size == 1 and strategy != "single" and offload == "none" and not pinned.strategy:
                continue  # DeepSpeed on one GPU is worth its trouble for offload only
            for micro_batch in micro_batches(pinned, settings, target):
                for recompute in checkpointing:
                    yield Candidate(
                        strategy=strategy,
                        micro_batch=micro_batch,
                        gradient_accumulation=settings.global_batch // (micro_batch * target.world_size),
                        gradient_checkpointing=recompute,
                        offload=offload,
                    )


def micro_batches(pinned: PlanTable, settings: Settings, target: Target) -> tuple[int, ...]:
    """Returns the micro batches that keep the global batch exactly; none where it does not divide."""
    per_rank, rest = divmod(settings.global_batch, target.world_size)
    if rest or not per_rank:
        return ()
    if pinned.micro_batch is not None:
        return (pinned.micro_batch,) if per_rank % pinned.micro_batch == 0 else ()
    return tuple(m for m in range(1, min(per_rank, MAX_MICRO_BATCH) + 1) if per_rank % m == 0)


MAX_MICRO_BATCH = 128  # beyond it no kernel gains, and padding only grows
