"""Single changes that may make a recipe fit, those that change the result of training least first.

They are words only: the pipeline follows each one as the user would, and shows those that fit.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ftc.facts import Facts, Target, load_gpus
from ftc.recipe import PlanTable
from ftc.settings import Settings

_SHORTEST = 512
_MOST_GPUS = 512


class Remedy(NamedTuple):
    """What to type, and the same for a machine: overrides of the recipe, a key of `[plan]` to leave out, a target."""

    text: str
    overrides: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()
    gpus: str | None = None


def list_remedies(pinned: PlanTable, settings: Settings, facts: Facts) -> Iterator[Remedy]:
    """Yields the changes in order: plan keys, hardware, precision and length, method."""
    assert facts.target is not None
    written = [key for key in ("gradient_checkpointing", "micro_batch", "offload", "strategy") if _pins(pinned, key)]
    for key in written:
        yield Remedy(text=f"remove `{key}` from `[plan]`", freed=(key,))
    if len(written) > 1:
        yield Remedy(text="remove `[plan]`", freed=tuple(written))
    for target in _larger_targets(facts.target, settings.global_batch):
        yield Remedy(text=f"use `--gpus {target.text}`", gpus=target.text)
    yield from _smaller_recipes(settings)


def _pins(pinned: PlanTable, key: str) -> bool:
    return getattr(pinned, key) is not None


def _larger_targets(target: Target, global_batch: int) -> Iterator[Target]:
    nodes, per_node = target.nodes, target.gpus_per_node
    while nodes * per_node * 2 <= min(global_batch, _MOST_GPUS):
        if per_node * 2 <= max(target.gpu.gpus_per_node, per_node):
            per_node *= 2
        else:
            nodes *= 2
        yield target._replace(nodes=nodes, gpus_per_node=per_node)
    same_maker = [g for g in load_gpus() if g.vendor == target.gpu.vendor]
    roomier = [g for g in same_maker if (g.usable_memory_bytes or 0) > target.memory_bytes]
    for gpu in sorted(roomier, key=lambda g: g.usable_memory_bytes or 0):
        yield target._replace(gpu=gpu)


def _smaller_recipes(settings: Settings) -> Iterator[Remedy]:
    if settings.adapter is None and settings.dtype == "float32" and settings.precision == "bf16":
        yield Remedy(text='write `[model] dtype = "bfloat16"`', overrides=("model.dtype=bfloat16",))
    length = settings.max_length // 2
    while length >= _SHORTEST:
        yield Remedy(text=f"write `[data] max_length = {length}`", overrides=(f"data.max_length={length}",))
        length //= 2
    lora, bits = "adapter.kind=lora", "quantization.bits=4"
    if settings.adapter is None:
        yield Remedy(text='add `[adapter] kind = "lora"`', overrides=(lora,))
        yield Remedy(text='add `[adapter] kind = "lora"` and `[quantization] bits = 4`', overrides=(lora, bits))
    elif settings.quantization is None:
        yield Remedy(text="add `[quantization] bits = 4`", overrides=(bits,))
