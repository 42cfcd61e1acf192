"""launch.sh and submit.sbatch: how a bundle starts. Every value is a literal or quoted."""

from collections.abc import Iterator
from typing import NamedTuple

from ftc.emit.environment import render
from ftc.emit.job import Job
from ftc.emit.quoting import shell_word

_DEFAULT_CPUS_PER_GPU = 8
_DEFAULT_HOURS = "24:00:00"
FLASH_ATTN_VERSION = "2.8.3.post2"


class LaunchView(NamedTuple):
    """What both launch scripts print."""

    name: str
    nodes: int
    gpus_per_node: int
    world_size: int
    gpu: str
    exports: tuple[str, ...]
    directives: tuple[str, ...]
    modules: tuple[str, ...]
    merge: bool
    builds_flash: bool
    flash_version: str


def launch_view(job: Job) -> LaunchView:
    """Returns the view of launch.sh and submit.sbatch."""
    return LaunchView(
        name=job.settings.name,
        nodes=job.target.nodes,
        gpus_per_node=job.target.gpus_per_node,
        world_size=job.target.world_size,
        gpu=job.target.gpu.name,
        exports=tuple(_exports(job)),
        directives=tuple(_directives(job)),
        modules=job.site.slurm.modules,
        merge=job.settings.merge,
        builds_flash=job.settings.attention == "flash_attention_2",
        flash_version=FLASH_ATTN_VERSION,
    )


def emit_launch(view: LaunchView) -> str:
    """Returns launch.sh."""
    return render("launch.sh.jinja", view)


def emit_sbatch(view: LaunchView) -> str:
    """Returns submit.sbatch."""
    return render("submit.sbatch.jinja", view)


def _exports(job: Job) -> Iterator[str]:
    threads = 1 if job.on_cpu else job.site.slurm.cpus_per_gpu or _DEFAULT_CPUS_PER_GPU
    if not (job.on_cpu and job.target.world_size == 1):
        yield f'export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"'
    yield "export TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1"
    yield "export HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 # no library reports use"
    if job.on_cpu:
        yield 'export CUDA_VISIBLE_DEVICES="" # compiled for a CPU'
    else:
        yield 'export PYTORCH_ALLOC_CONF="${PYTORCH_ALLOC_CONF:-expandable_segments:True}" # less fragmentation'
    if job.target.world_size > 1 and not job.on_cpu:
        yield 'export NCCL_DEBUG="${NCCL_DEBUG:-WARN}" TORCH_NCCL_ASYNC_ERROR_HANDLING=1'
    if job.plan.candidate.strategy.startswith("zero"):
        yield "export DS_BUILD_OPS=0" + (" DS_ACCELERATOR=cpu" if job.on_cpu else "")
    if job.on_cpu and job.plan.candidate.strategy == "fsdp2":
        yield 'export PYTHONPATH="$PWD/cpu${PYTHONPATH:+:$PYTHONPATH}" FTC_SHARD_ON_CPU=1 # see cpu/sitecustomize.py'
    if job.site.paths.cache:
        yield f"export FTC_CACHE={shell_word(job.site.paths.cache)} # the site's"
        yield 'export HF_HOME="${HF_HOME:-$FTC_CACHE}"'
    for name, value in sorted(job.site.environment.items()):
        yield f"export {name}={shell_word(value)}"


def _directives(job: Job) -> Iterator[str]:
    slurm, target = job.site.slurm, job.target
    yield f"--job-name={job.settings.name}"
    yield f"--nodes={target.nodes}"
    yield "--ntasks-per-node=1"
    if not job.on_cpu:
        kind = f"{slurm.gpu_type}:" if slurm.gpu_type else ""
        yield f"--gpus-per-node={kind}{target.gpus_per_node}"
    cpus = slurm.cpus_per_gpu or (1 if job.on_cpu else _DEFAULT_CPUS_PER_GPU)
    yield f"--cpus-per-task={target.gpus_per_node * cpus}"
    if not job.on_cpu and target.gpus_per_node == target.gpu.gpus_per_node:
        yield "--exclusive"
        yield "--mem=0"
    else:
        yield f"--mem={-(-job.plan.budget.host_bytes_per_node // 2**30)}G"
    for option in ("partition", "account", "qos", "constraint"):
        value = getattr(slurm, option)
        if value is not None:
            yield f"--{option}={value}"
    yield f"--time={slurm.time or _DEFAULT_HOURS}"
    yield "--open-mode=append"
    yield "--output=slurm-%x-%j.out"
