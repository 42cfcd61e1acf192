"""What the GPU, its precision and its attention kernels cannot do together."""

from collections.abc import Iterator

from ftc.diagnostic import Diagnostic
from ftc.facts import load_words
from ftc.rules.context import Context

_FLASH = ("flash_attention_2", "flash_attention_3")


def bf16_before_ampere(c: Context) -> Iterator[Diagnostic]:
    """FTC407"""
    if c.target and c.settings.precision == "bf16" and not c.target.gpu.bf16:
        yield c.error(
            "FTC407",
            f"{c.target.gpu.name} has no bfloat16, which needs compute capability 8.0",
            ("train", "precision"),
            'write `precision = "fp16"`, or leave it out',
        )


def flash_on_old_gpu(c: Context) -> Iterator[Diagnostic]:
    """FTC408"""
    if c.target and c.settings.attention == "flash_attention_2" and not c.target.gpu.flash_attention_2:
        yield c.error(
            "FTC408",
            f"FlashAttention-2 does not run on {c.target.gpu.name}",
            ("model", "attention"),
            'write `attention = "sdpa"`',
        )


def flash_in_float32(c: Context) -> Iterator[Diagnostic]:
    """FTC409"""
    if c.settings.attention in _FLASH and c.settings.precision == "fp32":
        yield c.error(
            "FTC409",
            "FlashAttention computes in half precision only, this recipe in float32",
            ("model", "attention"),
            'write `attention = "sdpa"`, or `[train] precision = "bf16"`',
        )


def flash3_off_hopper(c: Context) -> Iterator[Diagnostic]:
    """FTC410"""
    if c.target and c.settings.attention == "flash_attention_3" and not c.target.gpu.flash_attention_3:
        yield c.error(
            "FTC410",
            f"FlashAttention-3 runs on Hopper GPUs, {c.target.gpu.name} is none",
            ("model", "attention"),
            'write `attention = "sdpa"`',
        )


def bitsandbytes_off_nvidia(c: Context) -> Iterator[Diagnostic]:
    """FTC411"""
    if c.target is None or c.target.gpu.vendor in ("nvidia", "cpu"):
        return
    if c.settings.quantization is not None:
        yield c.error(
            "FTC411",
            f"the pinned bitsandbytes is built for NVIDIA GPUs, {c.target.gpu.name} is none",
            ("quantization",),
            "remove `[quantization]`",
        )


def flex_on_cpu(c: Context) -> Iterator[Diagnostic]:
    """FTC412"""
    if c.target and c.target.gpu.is_cpu and c.settings.attention == "flex_attention":
        yield c.error(
            "FTC412",
            "flex attention has no backward pass on a CPU",
            ("model", "attention"),
            'write `attention = "sdpa"`',
        )


def attention_without_package(c: Context) -> Iterator[Diagnostic]:
    """FTC413"""
    name = c.settings.attention
    if name == "flash_attention_3" or name.startswith(("paged|", "kernels-community/", "flash_attention_4")):
        yield c.error(
            "FTC413",
            f"stack {c.facts.stack.name} has no package that trains with `{name}`",
            ("model", "attention"),
            'write `attention = "sdpa"`, or `"flash_attention_2"`',
        )


def float16_weights_trained(c: Context) -> Iterator[Diagnostic]:
    """FTC414"""
    if c.settings.trains_whole_model and c.settings.dtype == "float16" and c.settings.precision == "fp16":
        yield c.error(
            "FTC414",
            "gradients of float16 weights cannot be unscaled: torch stops at the first step",
            ("model", "dtype"),
            'write `dtype = "float32"`, which trains under float16 autocast',
        )


def dtype_against_precision(c: Context) -> Iterator[Diagnostic]:
    """FTC415"""
    pairs = {"bf16": "float16", "fp16": "bfloat16"}
    if c.source.has("model", "dtype") and pairs.get(c.settings.precision) == c.settings.dtype:
        yield c.error(
            "FTC415",
            f"weights in {c.settings.dtype} under {c.settings.precision} autocast mix two half precisions",
            ("model", "dtype"),
            'write `dtype = "auto"`',
        )


def half_weights_without_autocast(c: Context) -> Iterator[Diagnostic]:
    """FTC416"""
    if c.settings.trains_whole_model and c.settings.precision == "fp32" and c.settings.dtype != "float32":
        yield c.error(
            "FTC416",
            f"precision is fp32, the trained weights are {c.settings.dtype}",
            ("model", "dtype"),
            'write `dtype = "float32"`, or `[train] precision = "bf16"`',
        )


def gpu_without_torch(c: Context) -> Iterator[Diagnostic]:
    """FTC420"""
    oldest = tuple(load_words()["torch"]["oldest_capability"])
    gpu = c.target.gpu if c.target else None
    if gpu is None or gpu.is_cpu:
        return
    if gpu.vendor != "nvidia" or (gpu.compute_capability is not None and gpu.compute_capability < oldest):
        yield c.warning(
            "FTC420",
            f"the pinned torch is built for CUDA 13, which has no code for {gpu.name}",
            ("model", "base"),
            "build an environment with a torch for that GPU, and launch with FTC_PYTHON=/path/to/python ./launch.sh",
        )


RULES = (
    gpu_without_torch,
    bf16_before_ampere,
    flash_on_old_gpu,
    flash_in_float32,
    flash3_off_hopper,
    bitsandbytes_off_nvidia,
    flex_on_cpu,
    attention_without_package,
    float16_weights_trained,
    dtype_against_precision,
    half_weights_without_autocast,
)
