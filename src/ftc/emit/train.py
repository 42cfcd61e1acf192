"""train.py: one frozen view of what the run reads, builds and checks, and the template that prints it."""

from collections.abc import Mapping
from typing import NamedTuple

from ftc import __version__
from ftc.emit.arguments import (
    Argument,
    adapter_arguments,
    config_arguments,
    model_arguments,
    quantization_arguments,
    tokenizer_arguments,
)
from ftc.emit.environment import render
from ftc.emit.job import Job
from ftc.emit.rows import Reader, all_roles, list_files, list_readers

_METHOD_WORDS = {None: "full fine-tuning", "lora": "LoRA", "dora": "DoRA", "rslora": "rank-stabilised LoRA"}
_LINE = 88  # ruff format's width


class ModelView(NamedTuple):
    """Which model and tokenizer, and how they are loaded. `place` is where the model is: hub, bundle or outside."""

    name: str
    place: str
    tokenizer: tuple[Argument, ...]
    template_file: str | None
    template_family: str | None
    new_tokens: tuple[str, ...]
    arguments: tuple[Argument, ...]
    quantization: tuple[Argument, ...]
    adapter: tuple[Argument, ...]


class RowsView(NamedTuple):
    """Which rows, and how they are reshaped."""

    train: tuple[Reader, ...]
    eval: tuple[Reader, ...]
    eval_fraction: float | None
    seed: int
    system_prompt: str | None
    roles: Mapping[str, str]
    reads_carried: bool
    reads_external: bool
    external_root: str
    concatenates: bool


class TrainView(NamedTuple):
    """All that train.py and merge.py print."""

    version: str
    name: str
    what: str
    where: str
    model: ModelView
    rows: RowsView
    imports: tuple[str, ...]
    arguments: tuple[Argument, ...]
    environment: Mapping[str, str]
    distributed_type: str
    world_size: int
    check: str
    zero_stage: int
    resume: bool
    merge: bool
    on_cpu: bool


def train_view(job: Job) -> TrainView:
    """Returns the view of train.py."""
    strategy = job.plan.candidate.strategy
    is_zero = strategy.startswith("zero")
    return TrainView(
        version=__version__,
        name=job.settings.name,
        what=_what(job),
        where=job.target.text + ("" if strategy == "single" else f" under {strategy}"),
        model=_model_view(job),
        rows=_rows_view(job),
        imports=_transformers_import(job),
        arguments=tuple(config_arguments(job)),
        environment=_environment(job),
        distributed_type=_distributed_type(job),
        world_size=job.target.world_size,
        check="zero" if is_zero else strategy,
        zero_stage=int(strategy[-1]) if is_zero else 0,
        resume=job.settings.resume,
        merge=job.settings.merge,
        on_cpu=job.on_cpu,
    )


def emit_train(view: TrainView) -> str:
    """Returns train.py."""
    return render("train.py.jinja", view)


def _model_view(job: Job) -> ModelView:
    outside = "outside" if job.facts.local_model is not None else "hub"
    return ModelView(
        name=job.settings.base,
        place="bundle" if job.carries_model else outside,
        tokenizer=tuple(tokenizer_arguments(job)),
        template_file="chat_template.jinja" if job.facts.template_file else None,
        template_family=_family_file(job),
        new_tokens=job.settings.new_tokens,
        arguments=tuple(model_arguments(job)),
        quantization=tuple(quantization_arguments(job)),
        adapter=tuple(adapter_arguments(job)),
    )


def _family_file(job: Job) -> str | None:
    """Returns the file of the named template family that trl ships: the marked one where the loss needs marks."""
    family = job.settings.chat_template
    if family == "auto" or job.facts.template_file is not None:
        return None
    marked = job.settings.loss_on == "assistant" and family in job.facts.stack.training_families
    return f"{family}_training.jinja" if marked else f"{family}.jinja"


def _rows_view(job: Job) -> RowsView:
    files = list_files(job)
    return RowsView(
        train=list_readers(job, "train"),
        eval=list_readers(job, "eval"),
        eval_fraction=job.settings.eval_fraction,
        seed=job.settings.seed,
        system_prompt=job.settings.system_prompt,
        roles=all_roles(job),
        reads_carried=any(f.carried for f in files),
        reads_external=any(not f.carried for f in files),
        external_root=job.site.paths.data or "data",
        concatenates=_concatenates(job),
    )


def _transformers_import(job: Job) -> tuple[str, ...]:
    """Returns the import from transformers as ruff format lays it out."""
    names = ["AutoTokenizer", "PreTrainedTokenizerBase", "TrainerCallback"]
    names += ["AutoModelForCausalLM"] if job.settings.new_tokens else []
    names += ["BitsAndBytesConfig"] if job.settings.quantization else []
    line = f"from transformers import {', '.join(sorted(names))}"
    if len(line) <= _LINE:
        return (line,)
    return ("from transformers import (", *(f"    {name}," for name in sorted(names)), ")")


def _what(job: Job) -> str:
    settings = job.settings
    words = _METHOD_WORDS[settings.adapter.kind if settings.adapter else None]
    if settings.quantization is not None:
        words += f" on {settings.quantization.bits}-bit weights"
    return f"{words} of {settings.base}"


def _concatenates(job: Job) -> bool:
    weights = [row.weight or 1 for row in job.recipe.data.train]
    return len(weights) > 1 or len(job.recipe.data.eval or ()) > 1 or any(w > 1 for w in weights)


def _distributed_type(job: Job) -> str:
    match job.plan.candidate.strategy:
        case "single":
            return "NO"
        case "ddp":
            return "MULTI_CPU" if job.on_cpu else "MULTI_GPU"
        case "fsdp2":
            return "FSDP"
        case _:
            return "DEEPSPEED"


def _environment(job: Job) -> dict[str, str]:
    """Returns the variables that train.py sets unless the caller has: telemetry off, the tracker's project."""
    variables = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    names = {"wandb": "WANDB_PROJECT", "mlflow": "MLFLOW_EXPERIMENT_NAME"}
    if job.settings.project:
        variables |= {v: job.settings.project for k, v in names.items() if k in job.settings.trackers}
    return variables
