"""GPUs and targets: `2x8xH100` -> a Target with the memory that torch reports for each GPU."""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from ftc.diagnostic import Diagnostic, Span, did_you_mean
from ftc.facts.files import read_data

_TARGET = re.compile(r"(?:(?:(\d{1,5})x)?(\d{1,5})x)?([A-Za-z][A-Za-z0-9 _.-]{0,60}|\d{4}[A-Za-z0-9-]*)")
_CPU = re.compile(r"(?i)cpu-(\d{1,5})gb")
_MAX_NODES, _MAX_GPUS = 4096, 256


class GpuFacts(NamedTuple):
    """One kind of GPU. `usable_memory_bytes` is what torch reports as total; bandwidths are per GPU, one way."""

    name: str
    aliases: tuple[str, ...]
    vendor: str
    arch: str | None
    compute_capability: tuple[int, int] | None
    usable_memory_bytes: int | None
    usable_memory_source: str | None
    dense_tflops: Mapping[str, float | None]
    hbm_bandwidth_bytes_per_s: int | None
    link_bytes_per_s: int | None
    link_name: str | None
    inter_node_bytes_per_s: int | None
    gpus_per_node: int
    bf16: bool
    flash_attention_2: bool
    flash_attention_3: bool
    sources: tuple[str, ...]

    @property
    def is_cpu(self) -> bool:
        return self.vendor == "cpu"


class Target(NamedTuple):
    """The hardware that a bundle is compiled for."""

    gpu: GpuFacts
    nodes: int
    gpus_per_node: int

    @property
    def world_size(self) -> int:
        return self.nodes * self.gpus_per_node

    @property
    def memory_bytes(self) -> int:
        assert self.gpu.usable_memory_bytes is not None  # parse_target refuses a GPU without it
        return self.gpu.usable_memory_bytes

    @property
    def text(self) -> str:
        prefix = f"{self.nodes}x" if self.nodes > 1 else ""
        return f"{prefix}{self.gpus_per_node}x{self.gpu.name}"


@cache
def load_gpus() -> tuple[GpuFacts, ...]:
    """Returns all GPUs that ftc knows, in the order of the data file."""
    return tuple(_read_gpu(record) for record in json.loads(read_data("gpus.json"))["gpus"])


def _read_gpu(record: Mapping[str, Any]) -> GpuFacts:
    capability = record["compute_capability"]
    plain = {n: record[n] for n in GpuFacts._fields if n not in ("aliases", "compute_capability", "sources")}
    return GpuFacts(
        **plain,
        aliases=tuple(record["aliases"]),
        compute_capability=tuple(capability) if capability else None,
        sources=tuple(record["sources"]),
    )


def gpu_names() -> list[str]:
    """Returns names and aliases, names first."""
    gpus = load_gpus()
    return [g.name for g in gpus] + [a for g in gpus for a in g.aliases]


def find_gpu(name: str) -> GpuFacts | None:
    """Returns the GPU of that name or alias, compared without case, spaces or underscores."""
    folded = _fold(name)
    for gpu in load_gpus():
        if folded in (_fold(n) for n in (gpu.name, *gpu.aliases)):
            return gpu
    cpu = _CPU.fullmatch(name)
    if cpu:
        base = next(g for g in load_gpus() if g.is_cpu)
        source = "written in the target"
        return base._replace(
            name=f"CPU-{cpu[1]}GB", usable_memory_bytes=int(cpu[1]) * 2**30, usable_memory_source=source
        )
    return None


def _fold(name: str) -> str:
    return re.sub(r"[\s_]", "", name).casefold()


def parse_target(text: str) -> Target | Diagnostic:
    """Returns the target that `--gpus` names: `[NODESx]GPUSxNAME`."""
    span = Span(file="--gpus", line=1, column=1, length=max(1, len(text)), text=text[:200])
    match = _TARGET.fullmatch(text.strip())
    if not match:
        return _bad_target(span, f"`{text[:80]}` is not a target", ("write `8xA100`, `2x8xH100` or `1xCPU`",))
    nodes, gpus = int(match[1] or 1), int(match[2] or 1)
    if not (1 <= nodes <= _MAX_NODES and 1 <= gpus <= _MAX_GPUS):
        return _bad_target(span, f"{nodes} nodes of {gpus} GPUs is out of range", ("write for example `2x8xH100`",))
    gpu = find_gpu(match[3])
    if gpu is None:
        hints = did_you_mean(match[3], gpu_names())
        return Diagnostic(code="FTC109", severity="error", message=f"unknown GPU `{match[3]}`", span=span, hints=hints)
    if gpu.usable_memory_bytes is None:
        hint = "use a GPU that `ftc catalog gpus` lists with its memory"
        return _bad_target(span, f"the usable memory of {gpu.name} is not known", (hint,))
    return Target(gpu=gpu, nodes=nodes, gpus_per_node=gpus)


def _bad_target(span: Span, message: str, hints: tuple[str, ...]) -> Diagnostic:
    return Diagnostic(code="FTC114", severity="error", message=message, span=span, hints=hints)
