"""plan.json, and the same keys for `--json`: the prediction with its range and the rejected near-ties."""

from typing import Any

from ftc.emit.job import Job
from ftc.emit.quoting import to_json
from ftc.plan.candidates import Candidate
from ftc.plan.choose import Costed
from ftc.plan.memory import COMPONENTS


def emit_plan(job: Job) -> str:
    """Returns plan.json."""
    return to_json({"name": job.settings.name, **plan_json(job)})


def plan_json(job: Job) -> dict[str, Any]:
    """Returns the plan's keys of the JSON contract."""
    plan = job.plan
    return {
        "fits": plan.fits,
        "target": _target(job),
        "plan": _decisions(job, plan.candidate),
        "because": {key: choice.because for key, choice in _because(job).items()},
        "memory": _memory(job),
        "time": _time(job),
        "alternatives": [
            {
                "plan": _decisions(job, a.costed.candidate),
                "peak_gib": _gib(a.costed.budget.peak_bytes),
                "hours": _hours(a.costed),
                "why_not": a.why_not,
            }
            for a in plan.alternatives
        ],
    }


def _target(job: Job) -> dict[str, Any]:
    target = job.target
    return {
        "gpu": target.gpu.name,
        "nodes": target.nodes,
        "gpus_per_node": target.gpus_per_node,
        "memory_gib": _gib(target.memory_bytes),
    }


def _decisions(job: Job, candidate: Candidate) -> dict[str, Any]:
    return {
        "strategy": candidate.strategy,
        "micro_batch": candidate.micro_batch,
        "gradient_accumulation": candidate.gradient_accumulation,
        "gradient_checkpointing": candidate.gradient_checkpointing,
        "offload": candidate.offload,
        "attention": job.settings.attention,
        "optimizer": job.settings.optimizer,
        "kernels": "none",
        "packing": job.settings.packing,
    }


def _because(job: Job) -> dict[str, Any]:
    settled = {"attention": "model.attention", "optimizer": "train.optimizer", "packing": "data.packing"}
    return {**job.plan.choices, **{key: job.settings.choices[name] for key, name in settled.items()}}


def _memory(job: Job) -> dict[str, Any]:
    budget = job.plan.budget
    return {
        "peak_gib": _gib(budget.peak_bytes),
        "low_gib": _gib(budget.low_bytes),
        "high_gib": _gib(budget.high_bytes),
        "allocated_gib": _gib(budget.allocated_bytes),
        "peak_phase": budget.peak_phase,
        "headroom_gib": _gib(job.target.memory_bytes - budget.peak_bytes),
        "host_gib_per_node": _gib(budget.host_bytes_per_node),
        "disk_gib": _gib(budget.disk_bytes),
        "components_gib": {name: _gib(budget.components[name]) for name in COMPONENTS},
        "phases_gib": {phase: _gib(sum(parts.values())) for phase, parts in budget.phases.items()},
    }


def _time(job: Job) -> dict[str, Any]:
    duration, price = job.plan.duration, job.site.price.gpu_hour
    hours = duration.hours
    return {
        "step_seconds": _round(duration.step_seconds),
        "tokens_per_second_per_gpu": _round(duration.tokens_per_second_per_gpu),
        "steps": duration.steps,
        "hours": _round(hours),
        "low_hours": _round(duration.low_hours),
        "high_hours": _round(duration.high_hours),
        "cost": _round(hours * price * job.target.world_size) if hours is not None and price is not None else None,
    }


def _hours(costed: Costed) -> float | None:
    return _round(costed.duration.hours)


def _gib(count_bytes: float) -> float:
    return round(count_bytes / 2**30, 3)


def _round(value: float | None) -> float | None:
    """Returns four significant digits, so that the last bits of a float never show."""
    return None if value is None else float(f"{value:.4g}")
