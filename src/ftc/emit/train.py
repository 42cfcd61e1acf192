"""train.py and preflight.py share one view: what the run reads, builds and checks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftc import __version__
from ftc.emit.environment import render
from ftc.emit.job import Job
from ftc.emit.requirements import pinned_names
from ftc.emit.rows import Reader, all_roles, list_files, list_readers
from ftc.facts import matches_target
from ftc.plan.choose import gib
from ftc.settings import CHAT_FORMATS

_METHOD_WORDS = {None: "full fine-tuning", "lora": "LoRA", "dora": "DoRA", "rslora": "rank-stabilised LoRA"}
_TRAINED_WORDS = {"assistant": "the assistant's", "completion": "the completion", "all": "all of it"}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One keyword argument: its name, its value, and a comment where a reader would ask why."""

    name: str
    value: Any
    comment: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainView:
    """All that the templates of train.py and preflight.py print; booleans are ready-made."""

    version: str
    name: str
    what: str
    where: str
    target: str
    model: str
    model_is_carried: bool
    model_is_external: bool
    tokenizer_arguments: tuple[Argument, ...]
    template_file: str | None
    template_family: str | None
    new_tokens: tuple[str, ...]
    system_prompt: str | None
    roles: Mapping[str, str]
    train_readers: tuple[Reader, ...]
    eval_readers: tuple[Reader, ...]
    eval_fraction: float | None
    has_eval: bool
    reads_carried: bool
    reads_external: bool
    concatenates: bool
    external_root: str
    seed: int
    arguments: tuple[Argument, ...]
    model_arguments: tuple[Argument, ...]
    quantization: tuple[Argument, ...]
    adapter: tuple[Argument, ...]
    environment: Mapping[str, str]
    distributed_type: str
    world_size: int
    check: str
    zero_stage: int
    resume: bool
    merge: bool
    on_cpu: bool
    loss_on: str
    is_chat: bool
    max_length: int
    packing: bool
    batch_tokens: int
    gpu: str
    gpus_per_node: int
    gpu_memory_bytes: int
    host_bytes: int
    disk_bytes: int
    files: Mapping[str, tuple[bool, str]]
    pinned: tuple[str, ...]
    host_gib: str
    disk_gib: str
    gpu_gib: str
    trained_words: str


def train_view(job: Job) -> TrainView:
    """Returns the view of train.py."""
    settings, candidate = job.settings, job.plan.candidate
    readers = list_readers(job, "train")
    files = list_files(job)
    family = settings.chat_template if settings.chat_template not in ("auto",) else None
    return TrainView(
        version=__version__,
        name=settings.name,
        what=_what(job),
        where=_where(job),
        target=job.target.text,
        model="model" if job.carries_model else settings.base,
        model_is_carried=job.carries_model,
        model_is_external=job.facts.local_model is not None and not job.carries_model,
        tokenizer_arguments=tuple(_tokenizer_arguments(job)),
        template_file="chat_template.jinja" if job.facts.template_file else None,
        template_family=_family_file(job, family) if family and not job.facts.template_file else None,
        new_tokens=settings.new_tokens,
        system_prompt=settings.system_prompt,
        roles=all_roles(job),
        train_readers=readers,
        eval_readers=list_readers(job, "eval"),
        eval_fraction=settings.eval_fraction,
        has_eval=settings.has_eval,
        reads_carried=any(f.carried for f in files),
        reads_external=any(not f.carried for f in files),
        concatenates=_concatenates(job),
        external_root=job.site.paths.data or "data",
        seed=settings.seed,
        arguments=tuple(_arguments(job)),
        model_arguments=tuple(_model_arguments(job)),
        quantization=tuple(_quantization(job)),
        adapter=tuple(_adapter(job)),
        environment=_environment(job),
        distributed_type=_distributed_type(job),
        world_size=job.target.world_size,
        check="zero" if candidate.strategy.startswith("zero") else candidate.strategy,
        zero_stage=int(candidate.strategy[-1]) if candidate.strategy.startswith("zero") else 0,
        resume=settings.resume,
        merge=settings.merge,
        on_cpu=job.on_cpu,
        loss_on=settings.loss_on,
        is_chat=job.recipe.data.train[0].format in CHAT_FORMATS,
        max_length=settings.max_length,
        packing=settings.packing,
        batch_tokens=settings.global_batch * settings.max_length,
        gpu=job.target.gpu.name,
        gpus_per_node=job.target.gpus_per_node,
        gpu_memory_bytes=job.plan.budget.high_bytes,
        host_bytes=job.plan.budget.host_bytes_per_node,
        disk_bytes=job.plan.budget.disk_bytes,
        files={f.bundle_path: (f.carried, f.facts.sha256) for f in files},
        pinned=pinned_names(job),
        host_gib=gib(job.plan.budget.host_bytes_per_node),
        disk_gib=gib(job.plan.budget.disk_bytes),
        gpu_gib=gib(job.plan.budget.high_bytes),
        trained_words=_TRAINED_WORDS[settings.loss_on],
    )


def emit_train(view: TrainView) -> str:
    """Returns train.py."""
    return render("train.py.jinja", view)


def emit_preflight(view: TrainView) -> str:
    """Returns preflight.py."""
    return render("preflight.py.jinja", view)


def _what(job: Job) -> str:
    settings = job.settings
    words = _METHOD_WORDS[settings.adapter.kind if settings.adapter else None]
    if settings.quantization is not None:
        words += f" on {settings.quantization.bits}-bit weights"
    return f"{words} of {settings.base}"


def _where(job: Job) -> str:
    strategy = job.plan.candidate.strategy
    shared = "" if strategy == "single" else f" under {strategy}"
    return f"{job.target.text}{shared}"


def _family_file(job: Job, family: str) -> str:
    marked = job.settings.loss_on == "assistant" and family in job.facts.stack.training_families
    return f"{family}_training.jinja" if marked else f"{family}.jinja"


def _concatenates(job: Job) -> bool:
    weights = [row.weight or 1 for row in job.recipe.data.train]
    return len(weights) > 1 or len(job.recipe.data.eval or ()) > 1 or any(w > 1 for w in weights)


def _tokenizer_arguments(job: Job) -> Iterator[Argument]:
    if job.settings.revision is not None:
        yield Argument(name="revision", value=job.settings.revision)
    yield Argument(name="trust_remote_code", value=job.settings.trust_remote_code)


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
    names = {"wandb": "WANDB_PROJECT", "mlflow": "MLFLOW_EXPERIMENT_NAME", "trackio": "TRACKIO_PROJECT"}
    if job.settings.project:
        variables |= {v: job.settings.project for k, v in names.items() if k in job.settings.trackers}
    return variables


def _model_arguments(job: Job) -> Iterator[Argument]:
    settings = job.settings
    yield Argument(name="dtype", value=settings.dtype, comment="left out, TRL loads float32")
    yield Argument(name="attn_implementation", value=settings.attention)
    if settings.revision is not None:
        yield Argument(name="revision", value=settings.revision)
    yield Argument(name="use_safetensors", value=True, comment="never unpickle weights")
    if not settings.quantization:
        yield Argument(name="device_map", value=None, comment='left out, TRL takes "auto" on one GPU')
    for name, value in ((job.recipe.model.extra or {}) if job.recipe.model else {}).items():
        yield Argument(name=name, value=value, comment="passed through from the recipe")


def _quantization(job: Job) -> Iterator[Argument]:
    quantization = job.settings.quantization
    if quantization is None:
        return
    if quantization.bits == 8:
        yield Argument(name="load_in_8bit", value=True)
        return
    yield Argument(name="load_in_4bit", value=True)
    yield Argument(name="bnb_4bit_quant_type", value=quantization.kind)
    yield Argument(name="bnb_4bit_use_double_quant", value=quantization.double)
    yield Argument(name="bnb_4bit_compute_dtype", value=_DTYPES[job.settings.precision])
    if job.plan.candidate.strategy == "fsdp2":
        yield Argument(
            name="bnb_4bit_quant_storage",
            value=job.settings.dtype,
            comment="FSDP shards one dtype, so 4-bit weights take it",
        )


def _adapter(job: Job) -> Iterator[Argument]:
    adapter, model = job.settings.adapter, job.facts.model
    if adapter is None:
        return
    yield Argument(name="task_type", value="CAUSAL_LM")
    yield Argument(name="r", value=adapter.r)
    yield Argument(name="lora_alpha", value=adapter.alpha)
    yield Argument(name="lora_dropout", value=adapter.dropout)
    yield Argument(name="target_modules", value=adapter.targets)
    if adapter.kind == "dora":
        yield Argument(name="use_dora", value=True)
    if adapter.kind == "rslora":
        yield Argument(name="use_rslora", value=True)
    if adapter.modules_to_save:
        yield Argument(name="modules_to_save", value=adapter.modules_to_save)
        embedding = any(matches_target(model.embedding, name) for name in adapter.modules_to_save)
        if model.tie_word_embeddings and embedding:
            yield Argument(name="ensure_weight_tying", value=True, comment="the head is the embedding's twin")
    extra = (job.recipe.adapter.extra if job.recipe.adapter else None) or {}
    for name, value in extra.items():
        yield Argument(name=name, value=value, comment="passed through from the recipe")


def _arguments(job: Job) -> Iterator[Argument]:
    """Yields the arguments of SFTConfig; one that `[train.extra]` passes replaces ours."""
    extra = job.recipe.train.extra or {}
    for argument in (*_schedule(job), *_precision(job), *_rows(job), *_saving(job), *_reporting(job)):
        if argument.name not in extra:
            yield argument
    for name, value in extra.items():
        yield Argument(name=name, value=value, comment="passed through from the recipe")


def _schedule(job: Job) -> Iterator[Argument]:
    settings, candidate = job.settings, job.plan.candidate
    yield Argument(name="per_device_train_batch_size", value=candidate.micro_batch)
    yield Argument(
        name="gradient_accumulation_steps",
        value=candidate.gradient_accumulation,
        comment=f"x {candidate.micro_batch} x {job.target.world_size} = {settings.global_batch} sequences a step",
    )
    if settings.max_steps is not None:
        yield Argument(name="max_steps", value=settings.max_steps)
    else:
        yield Argument(name="num_train_epochs", value=settings.epochs)
    yield Argument(name="learning_rate", value=settings.learning_rate)
    yield Argument(name="lr_scheduler_type", value=settings.scheduler)
    unit = "share of all steps" if settings.warmup < 1 else "steps"
    warmup = settings.warmup if settings.warmup < 1 else int(settings.warmup)
    yield Argument(name="warmup_steps", value=warmup, comment=unit)
    yield Argument(name="weight_decay", value=settings.weight_decay)
    yield Argument(name="max_grad_norm", value=settings.max_grad_norm)
    yield Argument(name="optim", value=settings.optimizer)
    yield Argument(name="seed", value=settings.seed)


def _precision(job: Job) -> Iterator[Argument]:
    settings, candidate = job.settings, job.plan.candidate
    sharded_on_cpu = job.on_cpu and candidate.strategy not in ("single", "ddp")
    yield Argument(name="bf16", value=settings.precision == "bf16", comment="left out, TRL turns it on")
    yield Argument(name="fp16", value=settings.precision == "fp16")
    if job.on_cpu:
        yield Argument(
            name="use_cpu",
            value=not sharded_on_cpu,
            comment="with it accelerate would not shard" if sharded_on_cpu else "",
        )
        yield Argument(name="dataloader_pin_memory", value=False)
        if candidate.strategy.startswith("zero"):
            yield Argument(name="ddp_backend", value="gloo")
    if candidate.strategy == "ddp":
        yield Argument(name="ddp_find_unused_parameters", value=False)
    yield Argument(name="gradient_checkpointing", value=candidate.gradient_checkpointing)
    if candidate.gradient_checkpointing:
        reentrant = candidate.strategy == "zero3" and settings.adapter is not None
        comment = "TRL forces it for adapters under ZeRO-3" if reentrant else ""
        yield Argument(name="gradient_checkpointing_kwargs", value={"use_reentrant": reentrant}, comment=comment)


def _rows(job: Job) -> Iterator[Argument]:
    settings = job.settings
    yield Argument(
        name="max_length", value=settings.max_length, comment="longer rows are cut; preflight.py counts them"
    )
    yield Argument(name="packing", value=settings.packing)
    if settings.packing:
        yield Argument(name="packing_strategy", value="bfd", comment="whole samples, kept apart")
    yield Argument(name="assistant_only_loss", value=settings.loss_on == "assistant")
    yield Argument(name="completion_only_loss", value=settings.loss_on == "completion")
    yield Argument(name="average_tokens_across_devices", value=True, comment="every token weighs the same")


def _saving(job: Job) -> Iterator[Argument]:
    settings = job.settings
    every = settings.every if settings.every < 1 else int(settings.every)
    yield Argument(name="save_strategy", value="steps")
    yield Argument(name="save_steps", value=every, comment="share of all steps" if every < 1 else "")
    yield Argument(name="save_total_limit", value=settings.keep)
    if settings.has_eval:
        yield Argument(name="eval_strategy", value="steps")
        yield Argument(name="eval_steps", value=every)
        yield Argument(name="per_device_eval_batch_size", value=job.plan.candidate.micro_batch)
    else:
        yield Argument(name="eval_strategy", value="no")
    if settings.best is not None:
        yield Argument(name="load_best_model_at_end", value=True)
        yield Argument(name="metric_for_best_model", value=settings.best)
        yield Argument(name="greater_is_better", value=False)


def _reporting(job: Job) -> Iterator[Argument]:
    settings = job.settings
    trackers: Any = list(settings.trackers) or "none"
    yield Argument(name="logging_steps", value=10)
    yield Argument(name="logging_first_step", value=True)
    yield Argument(name="report_to", value=trackers)
    if settings.trackers:
        yield Argument(name="run_name", value=settings.name)
    yield Argument(name="trust_remote_code", value=settings.trust_remote_code)
