"""The smallest single changes that make a recipe fit, each tried with the real budget, never guessed."""

from collections.abc import Iterator
from typing import NamedTuple

from ftc.facts import Facts, Target, load_gpus
from ftc.plan.choose import cost_candidates, fits, gib
from ftc.recipe import PlanTable
from ftc.settings import Adapter, Quantization, Settings

_MOST_HINTS = 4
_SHORTEST = 512


class _Change(NamedTuple):
    """What to type, and the recipe as it would then be. `rank`: 0 changes nothing trained, 3 changes the method."""

    rank: int
    text: str
    pinned: PlanTable
    settings: Settings
    facts: Facts


def find_remedies(pinned: PlanTable, settings: Settings, facts: Facts) -> tuple[str, ...]:
    """Returns hints that, when followed, fit; those that change the result of training least come first."""
    hints: list[str] = []
    for change in sorted(_changes(pinned, settings, facts), key=lambda c: c.rank):
        need = _smallest(change)
        if need is not None:
            hints.append(f"{change.text} (needs {gib(need)})")
        if len(hints) == _MOST_HINTS:
            break
    return tuple(hints)


def _smallest(change: _Change) -> int | None:
    assert change.facts.target is not None
    costed = cost_candidates(change.pinned, change.settings, change.facts)
    fitting = [c.budget.high_bytes for c in costed if fits(c.budget, change.facts.target)]
    return min(fitting) if fitting else None


def _changes(pinned: PlanTable, settings: Settings, facts: Facts) -> Iterator[_Change]:
    for key in ("gradient_checkpointing", "micro_batch", "offload", "strategy"):
        if getattr(pinned, key) is not None:
            freed = pinned.model_copy(update={key: None})
            yield _Change(rank=0, text=f"remove `{key}` from `[plan]`", pinned=freed, settings=settings, facts=facts)
    assert facts.target is not None
    for target in _larger_targets(facts.target, settings.global_batch):
        text = f"use `--gpus {target.text}`"
        yield _Change(rank=1, text=text, pinned=pinned, settings=settings, facts=facts._replace(target=target))
    yield from _smaller_recipes(pinned, settings, facts)


def _larger_targets(target: Target, global_batch: int) -> Iterator[Target]:
    nodes, per_node = target.nodes, target.gpus_per_node
    while nodes * per_node * 2 <= min(global_batch, 512):
        if per_node * 2 <= max(target.gpu.gpus_per_node, per_node):
            per_node *= 2
        else:
            nodes *= 2
        yield target._replace(nodes=nodes, gpus_per_node=per_node)
    roomier = [
        g for g in load_gpus() if (g.usable_memory_bytes or 0) > target.memory_bytes and g.vendor == target.gpu.vendor
    ]
    for gpu in sorted(roomier, key=lambda g: g.usable_memory_bytes or 0)[:4]:
        yield target._replace(gpu=gpu)


def _smaller_recipes(pinned: PlanTable, settings: Settings, facts: Facts) -> Iterator[_Change]:
    if settings.adapter is None and settings.dtype == "float32" and settings.precision == "bf16":
        smaller = settings._replace(dtype="bfloat16")
        yield _Change(rank=2, text='write `[model] dtype = "bfloat16"`', pinned=pinned, settings=smaller, facts=facts)
    length = settings.max_length // 2
    while length >= _SHORTEST:
        shorter = settings._replace(max_length=length)
        yield _Change(
            rank=2, text=f"write `[data] max_length = {length}`", pinned=pinned, settings=shorter, facts=facts
        )
        length //= 2
    if settings.adapter is None:
        lora = Adapter(kind="lora", r=16, alpha=32, dropout=0.0, targets="all-linear", modules_to_save=())
        dtype = "bfloat16" if settings.precision == "bf16" else settings.dtype
        adapted = settings._replace(adapter=lora, dtype=dtype)
        yield _Change(rank=3, text='add `[adapter] kind = "lora"`', pinned=pinned, settings=adapted, facts=facts)
        quantized = adapted._replace(quantization=Quantization(bits=4, kind="nf4", double=True))
        text = 'add `[adapter] kind = "lora"` and `[quantization] bits = 4`'
        yield _Change(rank=3, text=text, pinned=pinned, settings=quantized, facts=facts)
    elif settings.quantization is None:
        quantized = settings._replace(quantization=Quantization(bits=4, kind="nf4", double=True))
        yield _Change(rank=3, text="add `[quantization] bits = 4`", pinned=pinned, settings=quantized, facts=facts)
