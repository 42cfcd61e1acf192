"""The keyword arguments that train.py passes: SFTConfig, the model, its quantization, the adapter.

Every default that bites is written out; what the recipe passes through replaces ours.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ftc.emit.job import Job
from ftc.facts import matches_target

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_PASSED = "passed through from the recipe"


class Argument(NamedTuple):
    """One keyword argument: its name, its value, and a comment where a reader would ask why."""

    name: str
    value: Any
    comment: str = ""


def tokenizer_arguments(job: Job) -> Iterator[Argument]:
    if job.settings.revision is not None:
        yield Argument(name="revision", value=job.settings.revision)
    yield Argument(name="trust_remote_code", value=job.settings.trust_remote_code)


def model_arguments(job: Job) -> Iterator[Argument]:
    settings = job.settings
    yield Argument(name="dtype", value=settings.dtype, comment="left out, TRL loads float32")
    yield Argument(name="attn_implementation", value=settings.attention)
    if settings.revision is not None:
        yield Argument(name="revision", value=settings.revision)
    yield Argument(name="use_safetensors", value=True, comment="never unpickle weights")
    if not settings.quantization:
        yield Argument(name="device_map", value=None, comment='left out, TRL takes "auto" on one GPU')
    for name, value in ((job.recipe.model.extra or {}) if job.recipe.model else {}).items():
        yield Argument(name=name, value=value, comment=_PASSED)


def quantization_arguments(job: Job) -> Iterator[Argument]:
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


def adapter_arguments(job: Job) -> Iterator[Argument]:
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
        yield Argument(name=name, value=value, comment=_PASSED)


def config_arguments(job: Job) -> Iterator[Argument]:
    """Yields the arguments of SFTConfig; one that `[train.extra]` passes replaces ours."""
    extra = job.recipe.train.extra or {}
    for argument in (*_schedule(job), *_precision(job), *_rows(job), *_saving(job), *_reporting(job)):
        if argument.name not in extra:
            yield argument
    for name, value in extra.items():
        yield Argument(name=name, value=value, comment=_PASSED)


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
    if settings.project and "trackio" in settings.trackers:
        yield Argument(name="project", value=settings.project)
    yield Argument(name="trust_remote_code", value=settings.trust_remote_code)
