"""The choice: of all candidates that fit at the upper bound the fastest, then the simplest, then the roomiest."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ftc.facts import Facts, Target
from ftc.legal import OFFLOADS, STRATEGIES
from ftc.plan.candidates import Candidate, list_candidates
from ftc.plan.memory import Budget, budget_memory
from ftc.plan.time import Duration, estimate_time
from ftc.recipe import PlanTable
from ftc.settings import Choice, Settings

_TIE = 0.05  # times this near to each other are not told apart by the model
_SHOWN_ALTERNATIVES = 5


class Costed(NamedTuple):
    """A candidate with its memory and time."""

    candidate: Candidate
    budget: Budget
    duration: Duration


class Alternative(NamedTuple):
    """A candidate that was not chosen, and why."""

    costed: Costed
    why_not: str


class Plan(NamedTuple):
    """What ftc decided: the candidate, its budget, a `Choice` for each decision, and the near-ties."""

    candidate: Candidate
    budget: Budget
    duration: Duration
    fits: bool
    choices: Mapping[str, Choice]
    alternatives: tuple[Alternative, ...]


def fits(budget: Budget, target: Target) -> bool:
    """Returns whether the upper bound of the peak is within what torch reports as the GPU's memory."""
    return budget.high_bytes <= target.memory_bytes


def cost_candidates(pinned: PlanTable, settings: Settings, facts: Facts) -> list[Costed]:
    """Returns every legal candidate with its memory and time, in the order of simplicity."""
    assert facts.target is not None
    return [
        Costed(
            candidate=candidate,
            budget=budget_memory(facts, settings, candidate),
            duration=estimate_time(facts, settings, candidate),
        )
        for candidate in list_candidates(pinned, settings, facts.target)
    ]


def choose_plan(pinned: PlanTable, settings: Settings, facts: Facts, sources: Mapping[str, str]) -> Plan | None:
    """Returns the best plan; one that does not fit where none does; None where no candidate is legal.

    `sources` tells for each pinned key where it was written.
    """
    assert facts.target is not None
    costed = cost_candidates(pinned, settings, facts)
    if not costed:
        return None
    fitting = [c for c in costed if fits(c.budget, facts.target)]
    best = _best(fitting, settings.objective) if fitting else min(costed, key=lambda c: c.budget.high_bytes)
    return Plan(
        candidate=best.candidate,
        budget=best.budget,
        duration=best.duration,
        fits=bool(fitting),
        choices=_explain(pinned, sources, best, costed, facts.target),
        alternatives=_alternatives(best, costed, facts.target),
    )


def _best(fitting: Sequence[Costed], objective: str) -> Costed:
    if objective == "memory":
        return min(fitting, key=lambda c: (c.budget.high_bytes, _simplicity(c.candidate)))
    fastest = min(_seconds(c) for c in fitting)
    tied = [c for c in fitting if _seconds(c) <= fastest * (1 + _TIE)]
    return min(tied, key=lambda c: (_simplicity(c.candidate), c.budget.high_bytes))


def _seconds(costed: Costed) -> float:
    return costed.duration.step_seconds or 0.0


def _simplicity(candidate: Candidate) -> tuple[int, int, bool]:
    strategy = STRATEGIES.index(candidate.strategy)
    return OFFLOADS.index(candidate.offload), strategy, candidate.gradient_checkpointing


def _explain(
    pinned: PlanTable, sources: Mapping[str, str], best: Costed, costed: Sequence[Costed], target: Target
) -> dict[str, Choice]:
    chosen = best.candidate
    reasons = {
        "strategy": _why(best, costed, target, "strategy"),
        "micro_batch": _why(best, costed, target, "micro_batch"),
        "gradient_checkpointing": _why(best, costed, target, "gradient_checkpointing"),
        "offload": _why(best, costed, target, "offload"),
    }
    choices = {
        key: Choice(value=getattr(chosen, key), origin="recipe", because=sources[key])
        if getattr(pinned, key) is not None
        else Choice(value=getattr(chosen, key), origin="planner", because=reason)
        for key, reason in reasons.items()
    }
    batch = chosen.micro_batch * chosen.gradient_accumulation * target.world_size
    product = f"{chosen.micro_batch} x {chosen.gradient_accumulation} x {target.world_size}"
    because = f"{product} is the global batch of {batch}"
    choices["gradient_accumulation"] = Choice(value=chosen.gradient_accumulation, origin="planner", because=because)
    return choices


def _why(best: Costed, costed: Sequence[Costed], target: Target, key: str) -> str:
    """Returns why `key` has its value: what the best candidate with another value of it would cost."""
    value = getattr(best.candidate, key)
    others = [c for c in costed if getattr(c.candidate, key) != value]
    if not others:
        return "the only value that can work here"
    fitting = [c for c in others if fits(c.budget, target)]
    if not fitting:
        least = min(others, key=lambda c: c.budget.high_bytes)
        other = getattr(least.candidate, key)
        return f"{_word(other)} would need {gib(least.budget.high_bytes)} of {gib(target.memory_bytes)}"
    rival = min(fitting, key=_seconds)
    other = _word(getattr(rival.candidate, key))
    if _seconds(best) == 0:
        return f"the simplest that fits; {other} would fit too"
    ratio = _seconds(rival) / _seconds(best) - 1
    if ratio > _TIE:
        return f"fastest by the model; {other} would take {ratio:.0%} longer"
    return f"as fast as {other} within {_TIE:.0%}, and simpler or smaller"


def _word(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else f"`{value}`"


def _alternatives(best: Costed, costed: Sequence[Costed], target: Target) -> tuple[Alternative, ...]:
    """Returns the best other candidate of each strategy and offload, the nearest first."""
    groups: dict[tuple[str, str], Costed] = {}
    for c in sorted(costed, key=lambda c: (not fits(c.budget, target), _seconds(c), c.budget.high_bytes)):
        if c.candidate != best.candidate:
            groups.setdefault((c.candidate.strategy, c.candidate.offload), c)
    return tuple(
        Alternative(costed=c, why_not=_why_not(c, best, target)) for c in list(groups.values())[:_SHOWN_ALTERNATIVES]
    )


def _why_not(costed: Costed, best: Costed, target: Target) -> str:
    if not fits(costed.budget, target):
        return f"needs up to {gib(costed.budget.high_bytes)}, the GPU has {gib(target.memory_bytes)}"
    if _seconds(best) and _seconds(costed) > _seconds(best) * (1 + _TIE):
        return f"{_seconds(costed) / _seconds(best) - 1:.0%} slower by the model"
    return "as fast, but less simple or with less headroom"


def gib(count_bytes: float) -> str:
    """Returns bytes as GiB in words."""
    return f"{count_bytes / 2**30:.1f} GiB"
