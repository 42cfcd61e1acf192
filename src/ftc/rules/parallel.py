"""Batches, GPUs and strategies that do not go together."""

from collections.abc import Iterator

from ftc.diagnostic import Diagnostic
from ftc.legal import STRATEGIES, offload_conflict, strategy_conflict
from ftc.rules.context import Context


def batch_over_gpus(c: Context) -> Iterator[Diagnostic]:
    """FTC301"""
    if c.target is None:
        return
    ranks, batch = c.target.world_size, c.settings.global_batch
    if batch % ranks:
        below, above = batch // ranks * ranks, (batch // ranks + 1) * ranks
        choices = [f"`global_batch = {n}`" for n in (below, above) if n]
        yield c.error(
            "FTC301",
            f"global_batch {batch} does not divide over {ranks} GPUs",
            ("train", "global_batch"),
            f"write {' or '.join(choices)}, or use a number of GPUs that divides {batch}",
        )


def micro_batch_over_gpus(c: Context) -> Iterator[Diagnostic]:
    """FTC313"""
    micro = c.recipe.plan.micro_batch
    if micro is None:
        return
    ranks, batch = (c.target.world_size if c.target else 1), c.settings.global_batch
    if batch % ranks == 0 and batch % (micro * ranks):
        divisors = [m for m in range(1, batch // ranks + 1) if (batch // ranks) % m == 0]
        nearest = min(divisors, key=lambda m: (abs(m - micro), m))
        yield c.error(
            "FTC313",
            f"micro_batch {micro} on {ranks} GPUs does not divide global_batch {batch}",
            ("plan", "micro_batch"),
            f"write `micro_batch = {nearest}`, or leave it out",
        )


def strategy_impossible(c: Context) -> Iterator[Diagnostic]:
    """FTC302 FTC303 FTC304 FTC305 FTC306 FTC307 FTC308 FTC309"""
    strategy = c.recipe.plan.strategy
    if strategy is None or c.target is None:
        return
    conflict = strategy_conflict(strategy, c.settings, c.target)
    if conflict is not None:
        able = [s for s in STRATEGIES if strategy_conflict(s, c.settings, c.target) is None]
        hint = f'write `strategy = "{able[0]}"`, or leave it out' if able else "leave `strategy` out"
        yield c.error(conflict.code, conflict.reason, ("plan", "strategy"), hint)


def offload_impossible(c: Context) -> Iterator[Diagnostic]:
    """FTC310 FTC311 FTC312"""
    strategy, offload = c.recipe.plan.strategy, c.recipe.plan.offload
    if offload is None or offload == "none" or c.target is None:
        return
    candidates = (strategy,) if strategy else STRATEGIES
    able = [s for s in candidates if strategy_conflict(s, c.settings, c.target) is None]
    conflicts = [offload_conflict(offload, s, c.settings, c.target) for s in able]
    if conflicts and all(conflicts):
        conflict = conflicts[-1]
        assert conflict is not None
        yield c.error(conflict.code, conflict.reason, ("plan", "offload"), 'write `offload = "none"`, or leave it out')


def heads_do_not_divide(c: Context) -> Iterator[Diagnostic]:
    """FTC314"""
    model = c.facts.model
    if model.num_attention_heads % model.num_key_value_heads:
        yield c.error(
            "FTC314",
            f"{model.num_attention_heads} attention heads do not divide into {model.num_key_value_heads} groups",
            ("model", "base"),
            "mend `num_key_value_heads` in the model's config.json",
        )


def fewer_rows_than_batch(c: Context) -> Iterator[Diagnostic]:
    """FTC315"""
    rows, ranks = c.train_rows, c.target.world_size if c.target else 1
    if rows is not None and not c.settings.packing and rows < c.settings.global_batch:
        yield c.warning(
            "FTC315",
            f"global_batch is {c.settings.global_batch}, the rows are {rows}: each epoch is one smaller step",
            ("train", "global_batch"),
            f"write `global_batch = {max(1, rows // 8 // ranks) * ranks}` or less",
        )


def steps_and_epochs(c: Context) -> Iterator[Diagnostic]:
    """FTC316"""
    if c.recipe.train.max_steps is not None and c.recipe.train.epochs is not None:
        yield c.error(
            "FTC316",
            "both `epochs` and `max_steps` say when to stop",
            ("train", "max_steps"),
            "keep one of them",
        )


def more_gpus_than_a_node_has(c: Context) -> Iterator[Diagnostic]:
    """FTC317"""
    if c.target and c.target.gpus_per_node > c.target.gpu.gpus_per_node > 0:
        nodes = -(-c.target.gpus_per_node // c.target.gpu.gpus_per_node)
        yield c.warning(
            "FTC317",
            f"{c.target.gpus_per_node} {c.target.gpu.name} in one node; {c.target.gpu.gpus_per_node} are usual",
            ("name",),
            f"for several nodes write `--gpus {nodes}x{c.target.gpu.gpus_per_node}x{c.target.gpu.name}`",
        )


RULES = (
    batch_over_gpus,
    micro_batch_over_gpus,
    strategy_impossible,
    offload_impossible,
    heads_do_not_divide,
    fewer_rows_than_batch,
    steps_and_epochs,
    more_gpus_than_a_node_has,
)
