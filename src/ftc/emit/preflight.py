"""preflight.py: what is checked before a GPU hour is spent, and the numbers that it is held against."""

from collections.abc import Mapping
from typing import NamedTuple

from ftc import __version__
from ftc.emit.environment import render
from ftc.emit.job import Job
from ftc.emit.requirements import pinned_names
from ftc.emit.rows import list_files
from ftc.plan.choose import gib
from ftc.settings import CHAT_FORMATS, LossOn

_TRAINED_WORDS: Mapping[LossOn, str] = {
    "assistant": "the assistant's",
    "completion": "the completion",
    "all": "all of it",
}


class PreflightView(NamedTuple):
    """What preflight.py prints. `files`: name in the bundle -> (carried, sha256)."""

    version: str
    target: str
    pinned: tuple[str, ...]
    files: Mapping[str, tuple[bool, str]]
    on_cpu: bool
    gpu: str
    gpus_per_node: int
    gpu_memory_bytes: int
    gpu_gib: str
    host_bytes: int
    host_gib: str
    disk_bytes: int
    disk_gib: str
    loss_on: LossOn
    trained_words: str
    is_chat: bool
    max_length: int


def emit_preflight(job: Job) -> str:
    """Returns preflight.py."""
    budget, settings = job.plan.budget, job.settings
    view = PreflightView(
        version=__version__,
        target=job.target.text,
        pinned=pinned_names(job),
        files={f.bundle_path: (f.carried, f.facts.sha256) for f in list_files(job)},
        on_cpu=job.on_cpu,
        gpu=job.target.gpu.name,
        gpus_per_node=job.target.gpus_per_node,
        gpu_memory_bytes=budget.high_bytes,
        gpu_gib=gib(budget.high_bytes),
        host_bytes=budget.host_bytes_per_node,
        host_gib=gib(budget.host_bytes_per_node),
        disk_bytes=budget.disk_bytes,
        disk_gib=gib(budget.disk_bytes),
        loss_on=settings.loss_on,
        trained_words=_TRAINED_WORDS[settings.loss_on],
        is_chat=job.recipe.data.train[0].format in CHAT_FORMATS,
        max_length=settings.max_length,
    )
    return render("preflight.py.jinja", view)
