"""resolved.json: every value, who chose it and why, and what it was made from."""

from hashlib import sha256
from typing import Any

from ftc import __version__
from ftc.emit.job import Job
from ftc.emit.quoting import to_json
from ftc.emit.rows import list_files


def emit_resolved(job: Job) -> str:
    """Returns resolved.json."""
    return to_json(
        {
            "ftc": __version__,
            "recipe_sha256": sha256(job.source.text.encode()).hexdigest(),
            "overrides": list(job.overrides),
            "stack": {"name": job.facts.stack.name, "versions": dict(job.facts.stack.versions)},
            "target": job.target.text,
            "model": _model(job),
            "data": [_file(f) for f in list_files(job)],
            "values": {
                name: {"value": _plain(c.value), "origin": c.origin, "because": c.because}
                for name, c in job.choices.items()
            },
        }
    )


def _model(job: Job) -> dict[str, Any]:
    model, local = job.facts.model, job.facts.local_model
    return {
        "id": model.id,
        "architecture": model.architecture,
        "parameters": model.params_total,
        "files": {name: digest for name, (digest, _) in local.files.items()} if local else {},
        "sources": list(model.sources),
    }


def _file(file: Any) -> dict[str, Any]:
    facts = file.facts
    return {
        "path": facts.path,
        "in_bundle": f"data/{file.bundle_path}" if file.carried else None,
        "sha256": facts.sha256,
        "bytes": facts.size_bytes,
        "rows": facts.rows,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
