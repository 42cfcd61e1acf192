"""requirements.txt: the closure of what this recipe needs, with hashes, from the stack's lock."""

from functools import cache

from ftc.emit.job import Job
from ftc.facts import load_words
from ftc.facts.files import read_data
from ftc.facts.lock import Lock, closure, read_lock, requirements_text

_HEADER = """\
# Everything that this bundle needs, of stack {stack}: exact versions with their hashes.
#   uv pip install --require-hashes -r requirements.txt        (or pip install, the same)
# deepspeed, where listed, is built from source in seconds: DS_BUILD_OPS=0 keeps its kernels out.
"""


@cache
def _lock(stack: str) -> Lock:
    return read_lock(read_data(f"stacks/{stack}/lock.json"))


def list_features(job: Job) -> tuple[str, ...]:
    """Returns the feature sets of the lock that this recipe needs."""
    features = ["base"]
    if job.plan.candidate.strategy.startswith("zero"):
        features.append("deepspeed")
    if job.settings.quantization or job.settings.optimizer in load_words()["bitsandbytes"]["optimizers"]:
        features.append("bitsandbytes")
    return (*features, *job.settings.trackers)


def pinned_names(job: Job) -> tuple[str, ...]:
    """Returns the libraries that preflight.py looks up: those that a user would call by name."""
    names = ["torch", "transformers", "trl", "peft", "accelerate", "datasets"]
    return (*names, *(f for f in list_features(job) if f != "base"))


def emit_requirements(job: Job) -> str:
    """Returns requirements.txt."""
    stack = job.facts.stack.name
    return _HEADER.format(stack=stack) + requirements_text(closure(_lock(stack), list_features(job)))
