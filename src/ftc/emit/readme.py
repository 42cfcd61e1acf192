"""README.md of a bundle: what it trains, the budget, how to launch, resume and merge, who chose what."""

from typing import NamedTuple

from ftc import __version__
from ftc.emit.environment import render
from ftc.emit.job import Job
from ftc.emit.rows import list_files
from ftc.emit.train import TrainView
from ftc.plan.choose import gib
from ftc.plan.memory import COMPONENTS, PHASES

_BAR = 32


class Row(NamedTuple):
    """Cells of a table, ready to print."""

    cells: tuple[str, ...]


class ReadmeView(NamedTuple):
    """What the README prints."""

    version: str
    train: TrainView
    description: str
    stack: str
    strategy: str
    components: tuple[Row, ...]
    phases: tuple[Row, ...]
    peak: str
    low: str
    high: str
    memory: str
    headroom: str
    peak_phase: str
    host: str
    disk: str
    time: tuple[Row, ...]
    choices: tuple[Row, ...]
    alternatives: tuple[Row, ...]
    files: tuple[Row, ...]
    nodes: int
    needs_token: bool
    trackers: tuple[str, ...]
    resumes: bool


def emit_readme(job: Job, train: TrainView) -> str:
    """Returns README.md."""
    budget = job.plan.budget
    view = ReadmeView(
        version=__version__,
        train=train,
        description=job.recipe.description or "",
        stack=job.facts.stack.name,
        strategy=job.plan.candidate.strategy,
        components=_components(job),
        phases=_phases(job),
        peak=gib(budget.peak_bytes),
        low=gib(budget.low_bytes),
        high=gib(budget.high_bytes),
        memory=gib(job.target.memory_bytes),
        headroom=gib(job.target.memory_bytes - budget.peak_bytes),
        peak_phase=budget.peak_phase,
        host=gib(budget.host_bytes_per_node),
        disk=gib(budget.disk_bytes),
        time=_time(job),
        choices=_choices(job),
        alternatives=_alternatives(job),
        files=_files(job),
        nodes=job.target.nodes,
        needs_token=bool(job.facts.model.gated),
        trackers=job.settings.trackers,
        resumes=job.settings.resume,
    )
    return render("README.md.jinja", view)


def _components(job: Job) -> tuple[Row, ...]:
    budget = job.plan.budget
    peak = max(1, budget.peak_bytes)
    return tuple(
        Row(cells=(name, gib(budget.components[name]), "#" * round(_BAR * budget.components[name] / peak)))
        for name in COMPONENTS
    )


def _phases(job: Job) -> tuple[Row, ...]:
    totals = {phase: sum(job.plan.budget.phases[phase].values()) for phase in PHASES}
    most = max(1, *totals.values())
    return tuple(Row(cells=(p, gib(totals[p]), "#" * round(_BAR * totals[p] / most))) for p in PHASES)


def _time(job: Job) -> tuple[Row, ...]:
    duration = job.plan.duration
    known = (
        ("optimizer steps", f"{duration.steps}" if duration.steps is not None else None),
        ("seconds a step", f"{duration.step_seconds:.3g}" if duration.step_seconds else None),
        (
            "tokens/s per GPU",
            f"{duration.tokens_per_second_per_gpu:,.0f}" if duration.tokens_per_second_per_gpu else None,
        ),
        (
            "hours",
            f"{duration.hours:.3g} ({duration.low_hours:.3g} to {duration.high_hours:.3g})"
            if duration.hours is not None and not job.on_cpu
            else None,
        ),
    )
    return tuple(Row(cells=(name, text if text is not None else "not known")) for name, text in known)


def _choices(job: Job) -> tuple[Row, ...]:
    return tuple(Row(cells=(n, _cell(c.value), c.origin, c.because)) for n, c in job.choices.items())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _alternatives(job: Job) -> tuple[Row, ...]:
    rows = []
    for a in job.plan.alternatives:
        c = a.costed.candidate
        words = (
            f"{c.strategy}, micro batch {c.micro_batch}, checkpointing {'on' if c.gradient_checkpointing else 'off'}"
        )
        offload = "" if c.offload == "none" else f", offload {c.offload}"
        rows.append(Row(cells=(words + offload, gib(a.costed.budget.peak_bytes), a.why_not)))
    return tuple(rows)


def _files(job: Job) -> tuple[Row, ...]:
    return tuple(
        Row(
            cells=(
                f.facts.path,
                f"{f.facts.rows}" if f.facts.rows is not None else "not known",
                f"`data/{f.bundle_path}`" if f.carried else f"`$FTC_DATA/{f.bundle_path}`",
                f.facts.sha256[:16],
            )
        )
        for f in list_files(job)
    )
