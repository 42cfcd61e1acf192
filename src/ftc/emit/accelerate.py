"""accelerate.yaml: how many processes, and how they share the work."""

from typing import Any, assert_never

from ftc.emit.job import Job
from ftc.emit.quoting import to_yaml


def emit_accelerate(job: Job) -> str:
    """Returns the config file of `accelerate launch`."""
    target = job.target
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": _distributed_type(job),
        "downcast_bf16": "no",
        "machine_rank": 0,
        "main_training_function": "main",
        **_precision(job),
        "num_machines": target.nodes,
        "num_processes": target.world_size,
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": job.on_cpu and job.plan.candidate.strategy == "single",
        **_engine(job),
    }
    return to_yaml(config)


def _distributed_type(job: Job) -> str:
    match job.plan.candidate.strategy:
        case "single":
            return "NO"
        case "ddp":
            return "MULTI_GPU"  # on a CPU too: MULTI_CPU starts one process only unless mpirun is there
        case "zero1" | "zero2" | "zero3":
            return "DEEPSPEED"
        case "fsdp2":
            return "FSDP"
        case _ as never:
            assert_never(never)


def _precision(job: Job) -> dict[str, str]:
    """Returns the precision, except under DeepSpeed, where accelerate refuses it beside deepspeed.json."""
    if job.plan.candidate.strategy in ("zero1", "zero2", "zero3"):
        return {}
    return {"mixed_precision": "no" if job.settings.precision == "fp32" else job.settings.precision}


def _engine(job: Job) -> dict[str, Any]:
    match job.plan.candidate.strategy:
        case "single" | "ddp":
            return {}
        case "zero1" | "zero2" | "zero3" as strategy:
            return {
                "deepspeed_config": {
                    "deepspeed_config_file": "deepspeed.json",
                    "zero3_init_flag": strategy == "zero3" and not job.settings.new_tokens,
                    **({"deepspeed_multinode_launcher": "standard"} if job.target.nodes > 1 else {}),
                }
            }
        case "fsdp2":
            return {"fsdp_config": _fsdp(job)}


def _fsdp(job: Job) -> dict[str, Any]:
    return {
        "fsdp_version": 2,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        # One process reads the weights and sends them; bitsandbytes weights cannot be sent that way.
        "fsdp_cpu_ram_efficient_loading": job.settings.quantization is None and not job.settings.new_tokens,
        "fsdp_offload_params": job.plan.candidate.offload == "params",
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT",  # with shards, save_model writes no weights
        "fsdp_activation_checkpointing": False,  # train.py asks for it
    }
