"""deepspeed.json: the ZeRO stage with every buffer size written out."""

from typing import Any

from ftc.emit.job import Job
from ftc.emit.quoting import to_json
from ftc.facts import load_constants


def emit_deepspeed(job: Job) -> str:
    """Returns DeepSpeed's config; batch sizes and clipping follow train.py through `auto`."""
    return to_json(
        {
            "train_batch_size": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": job.settings.precision == "bf16"},
            "fp16": {"enabled": job.settings.precision == "fp16"},
            "zero_optimization": _zero(job),
        }
    )


def _zero(job: Job) -> dict[str, Any]:
    candidate = job.plan.candidate
    stage = int(candidate.strategy[-1])
    bucket = int(load_constants().memory["deepspeed_bucket_elements"])
    zero: dict[str, Any] = {"stage": stage, **_offload(job, stage)}
    if stage < 3:
        sizes = {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
        overlap = {"overlap_comm": stage == 2, "contiguous_gradients": True} if stage == 2 else {}
        return {**zero, **overlap, **sizes}
    hidden = job.facts.model.hidden_size
    return {
        **zero,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": hidden * hidden,
        "stage3_prefetch_bucket_size": hidden * hidden * 9 // 10,
        "stage3_param_persistence_threshold": 10 * hidden,
        "stage3_gather_16bit_weights_on_model_save": True,
    }


def _offload(job: Job, stage: int) -> dict[str, Any]:
    offload = job.plan.candidate.offload
    if offload == "none":
        return {}
    place = {"device": "cpu", "pin_memory": not job.on_cpu}
    optimizer = {"offload_optimizer": place}
    return {**optimizer, "offload_param": place} if offload == "params" and stage == 3 else optimizer
