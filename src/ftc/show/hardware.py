"""`ftc plan` without a target: which hardware would do, from the GPU catalog."""

from pathlib import Path
from typing import Any

from ftc.compile import Request, run_pipeline
from ftc.facts import load_gpus
from ftc.plan.choose import gib
from ftc.show.segments import Segment

_COUNTS = (1, 2, 4, 8)
_NODES = (2, 4, 8)


def hardware_rows(recipe: Path, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns for each GPU the fewest of them that the recipe fits on, smallest memory first."""
    gpus = [g for g in load_gpus() if g.usable_memory_bytes and not g.is_cpu]
    rows = [_fewest(recipe, overrides, gpu.name, gpu.gpus_per_node) for gpu in gpus]
    return [row for row in rows if row is not None]


def _fewest(recipe: Path, overrides: tuple[str, ...], name: str, per_node: int) -> dict[str, Any] | None:
    targets = [f"{n}x{name}" for n in _COUNTS if n <= max(1, per_node)]
    targets += [f"{nodes}x{per_node}x{name}" for nodes in _NODES if per_node > 1]
    for target in targets:
        outcome = run_pipeline(Request(recipe=recipe, gpus=target, overrides=overrides))
        if outcome.work is None or outcome.report.failed:
            continue
        plan = outcome.work.plan
        return {
            "gpus": target,
            "strategy": plan.candidate.strategy,
            "peak_gib": round(plan.budget.peak_bytes / 2**30, 1),
            "high_gib": round(plan.budget.high_bytes / 2**30, 1),
            "memory_gib": round(outcome.work.target.memory_bytes / 2**30, 1),
            "hours": plan.duration.hours,
        }
    return None


def render_hardware(name: str, rows: list[dict[str, Any]]) -> list[Segment]:
    """Returns the table."""
    segments: list[Segment] = [(f"{name}: the fewest of each GPU that it fits on\n\n", "strong")]
    if not rows:
        return [*segments, ("none that ftc knows, up to 8 nodes\n", "error")]
    for row in rows:
        hours = f", {row['hours']:.3g} h" if row["hours"] is not None else ""
        peak = gib(row["peak_gib"] * 2**30)
        segments.append(
            (
                f"  --gpus {row['gpus']:<32}{peak:>10} of {row['memory_gib']:>6} GiB, {row['strategy']}{hours}\n",
                "",
            )
        )
    return segments
