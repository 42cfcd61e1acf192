"""The bundle as a value: every file's path and text, and the files that are copied from beside the recipe."""

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from ftc.emit.accelerate import emit_accelerate
from ftc.emit.deepspeed import emit_deepspeed
from ftc.emit.environment import render
from ftc.emit.job import Job
from ftc.emit.launch import emit_launch, emit_sbatch, launch_view
from ftc.emit.merge import emit_merge
from ftc.emit.plan_file import emit_plan
from ftc.emit.preflight import emit_preflight
from ftc.emit.readme import emit_readme
from ftc.emit.requirements import emit_requirements
from ftc.emit.resolved import emit_resolved
from ftc.emit.rows import list_files
from ftc.emit.train import emit_train, train_view

EXECUTABLE = frozenset(("launch.sh",))


class Bundle(NamedTuple):
    """`texts`: path -> text. `copies`: path -> (path beside the recipe, sha256)."""

    name: str
    texts: Mapping[str, str]
    copies: Mapping[str, tuple[str, str]]


def emit_bundle(job: Job) -> Bundle:
    """Returns the whole bundle; the same job gives the same bytes."""
    view, launch = train_view(job), launch_view(job)
    texts = {
        "README.md": emit_readme(job, view),
        "recipe.toml": job.source.text,
        "resolved.json": emit_resolved(job),
        "plan.json": emit_plan(job),
        "train.py": emit_train(view),
        "preflight.py": emit_preflight(job),
        "accelerate.yaml": emit_accelerate(job),
        "launch.sh": emit_launch(launch),
        "submit.sbatch": emit_sbatch(launch),
        "requirements.txt": emit_requirements(job),
    }
    if job.plan.candidate.strategy.startswith("zero"):
        texts["deepspeed.json"] = emit_deepspeed(job)
    if job.settings.merge:
        texts["merge.py"] = emit_merge(view)
    if job.facts.template_file is not None:
        texts["chat_template.jinja"] = job.facts.template_file[1]
    if job.on_cpu and job.plan.candidate.strategy == "fsdp2":
        texts["cpu/sitecustomize.py"] = render("sitecustomize.py.jinja", view)
    copies = _copies(job)
    texts["MANIFEST.sha256"] = _manifest(texts, copies)
    return Bundle(name=job.settings.name, texts=texts, copies=copies)


def _copies(job: Job) -> dict[str, tuple[str, str]]:
    copies = {f"data/{f.bundle_path}": (f.facts.path, f.facts.sha256) for f in list_files(job) if f.carried}
    local = job.facts.local_model
    if local is not None and job.carries_model:
        folder = local.folder.removeprefix("./").rstrip("/")
        copies |= {f"model/{name}": (f"{folder}/{name}", digest) for name, (digest, _) in local.files.items()}
    return copies


def _manifest(texts: Mapping[str, str], copies: Mapping[str, tuple[str, str]]) -> str:
    """Returns the lines of `sha256sum --check MANIFEST.sha256`."""
    digests = {path: sha256(text.encode()).hexdigest() for path, text in texts.items()}
    digests |= {path: digest for path, (_, digest) in copies.items()}
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))
