"""A plan in the terminal: the decisions with reasons, the budget as bars, the near-ties."""

from collections.abc import Iterator

from ftc.emit import Job
from ftc.plan.choose import gib
from ftc.plan.memory import COMPONENTS, PHASES
from ftc.show.segments import Segment

_BAR = 30


def render_plan(job: Job) -> list[Segment]:
    """Returns the plan as text."""
    return list(_lines(job))


def _lines(job: Job) -> Iterator[Segment]:
    plan, budget = job.plan, job.plan.budget
    yield f"{job.settings.name}", "strong"
    yield (
        f" on {job.target.text}: {'fits' if plan.fits else 'does not fit'}\n\n",
        "hint" if plan.fits else "error",
    )
    for key, choice in plan.choices.items():
        yield f"  {key:<24}", ""
        yield f"{choice.value!s:<10}", "strong"
        yield f" {choice.origin}: {choice.because}\n", ""
    yield "\nmemory of each rank at its peak", "strong"
    yield f" ({budget.peak_phase})\n", ""
    for name in COMPONENTS:
        yield _bar(name, budget.components[name], budget.peak_bytes), ""
    yield f"  {'peak':<16}{gib(budget.peak_bytes):>11}", "strong"
    yield f"  {gib(budget.low_bytes)} to {gib(budget.high_bytes)}, of {gib(job.target.memory_bytes)}\n", ""
    yield "\nallocated by phase\n", "strong"
    totals = {phase: sum(budget.phases[phase].values()) for phase in PHASES}
    for phase, total in totals.items():
        yield _bar(phase, total, max(1, *totals.values())), ""
    yield f"\nhost memory {gib(budget.host_bytes_per_node)} per node, disk {gib(budget.disk_bytes)}\n", ""
    yield from _time(job)
    if plan.alternatives:
        yield "\nalso considered\n", "strong"
    for a in plan.alternatives:
        c = a.costed.candidate
        words = (
            f"{c.strategy}, micro batch {c.micro_batch}, checkpointing {'on' if c.gradient_checkpointing else 'off'}"
        )
        yield f"  {words}, offload {c.offload}: {gib(a.costed.budget.peak_bytes)}; {a.why_not}\n", ""


def _bar(name: str, part: int, whole: int) -> str:
    return f"  {name:<16}{gib(part):>11}  {'#' * round(_BAR * part / max(1, whole))}\n"


def _time(job: Job) -> Iterator[Segment]:
    duration = job.plan.duration
    if duration.step_seconds is None or job.on_cpu:
        yield "time: not known for this hardware\n", ""
        return
    yield (
        f"step {duration.step_seconds:.3g} s, {duration.tokens_per_second_per_gpu:,.0f} tokens/s per GPU",
        "",
    )
    if duration.hours is not None:
        yield (
            f", {duration.hours:.3g} h ({duration.low_hours:.3g} to {duration.high_hours:.3g})"
            f" in {duration.steps} steps",
            "",
        )
    else:
        yield "; hours not known: the rows are not local", ""
    yield "\n", ""
