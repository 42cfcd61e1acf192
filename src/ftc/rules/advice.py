"""What works but is likely not meant: advice, never an error."""

from collections.abc import Iterator

from ftc.diagnostic import Diagnostic
from ftc.facts import load_constants
from ftc.resolve import is_local
from ftc.rules.context import Context, is_commit


def unusual_learning_rate(c: Context) -> Iterator[Diagnostic]:
    """FTC901"""
    rate = c.settings.learning_rate
    low, high, kind = (1e-5, 5e-3, "an adapter") if c.settings.adapter else (1e-7, 2e-4, "full fine-tuning")
    tiny = c.facts.model.params_total < 50_000_000
    if not low <= rate <= high and not tiny:
        yield c.advice(
            "FTC901",
            f"learning_rate {rate:g} is unusual for {kind}",
            ("train", "learning_rate"),
            f"{low:g} to {high:g} is usual; write `learning_rate = {2e-4 if c.settings.adapter else 1e-5:g}` if unsure",
        )


def half_precision_weights_trained(c: Context) -> Iterator[Diagnostic]:
    """FTC902"""
    if c.settings.trains_whole_model and c.settings.dtype == "bfloat16":
        yield c.advice(
            "FTC902",
            "updates smaller than 1/256 of a bfloat16 weight are lost in rounding",
            ("model", "dtype"),
            'write `dtype = "float32"` where it fits',
        )


def unpinned_model(c: Context) -> Iterator[Diagnostic]:
    """FTC903"""
    if c.facts.local_model is None and not is_commit(c.settings.revision):
        yield c.advice(
            "FTC903",
            f"{c.settings.base} may change on the hub between two runs",
            ("model", "base"),
            "add `revision` with a commit of 40 hex digits",
        )


def unpinned_data(c: Context) -> Iterator[Diagnostic]:
    """FTC904"""
    for part, index, row in c.recipe.data.sources():
        if not is_local(row) and not is_commit(row.revision):
            yield c.advice(
                "FTC904",
                f"data set {row.source} may change on the hub between two runs",
                ("data", part, index, "source"),
                "add `revision` with a commit of 40 hex digits",
            )


def nothing_evaluated(c: Context) -> Iterator[Diagnostic]:
    """FTC905"""
    if not c.settings.has_eval:
        yield c.advice(
            "FTC905",
            "nothing is evaluated: overfitting will not show",
            ("data",),
            "add `eval_fraction = 0.02` to `[data]`, or `[[data.eval]]`",
        )


def many_epochs(c: Context) -> Iterator[Diagnostic]:
    """FTC906"""
    if c.settings.max_steps is None and c.settings.epochs > 10:
        yield c.advice(
            "FTC906",
            f"{c.settings.epochs:g} epochs over the same rows mostly memorise them",
            ("train", "epochs"),
            "1 to 5 are usual",
        )


def one_checkpoint(c: Context) -> Iterator[Diagnostic]:
    """FTC907"""
    if c.settings.keep == 1:
        yield c.advice(
            "FTC907",
            "with one checkpoint kept, a kill at the wrong moment leaves none that is whole",
            ("checkpoint", "keep"),
            "write `keep = 2` or more",
        )


def mostly_padding(c: Context) -> Iterator[Diagnostic]:
    """FTC908"""
    files = [f for (part, _), fs in c.facts.data.files.items() if part == "train" for f in fs]
    rows = sum(f.rows or 0 for f in files)
    if c.settings.packing or not rows or any(f.text_bytes is None for f in files):
        return
    mean = sum(f.text_bytes or 0 for f in files) / rows / load_constants().time["bytes_per_token"]
    if mean * 8 < c.settings.max_length and c.settings.max_length > 1024:
        yield c.advice(
            "FTC908",
            f"rows have about {mean:.0f} tokens, the budget is for {c.settings.max_length}",
            ("data", "packing"),
            "write `[data] packing = true`, or a smaller `max_length`",
        )


def experts_not_adapted(c: Context) -> Iterator[Diagnostic]:
    """FTC910"""
    adapter = c.settings.adapter
    extra = (c.recipe.adapter.extra or {}) if c.recipe.adapter else {}
    if (
        adapter
        and adapter.targets == "all-linear"
        and c.facts.model.fused_experts
        and not extra.get("target_parameters")
    ):
        share = c.facts.model.params_routed_experts / c.facts.model.params_total
        yield c.advice(
            "FTC910",
            f"`all-linear` does not reach the experts, {share:.0%} of the parameters: they are fused tensors",
            ("adapter", "targets"),
            "attention alone is usual for such models; name experts with `[adapter.extra] target_parameters`",
        )


def strong_scaling(c: Context) -> Iterator[Diagnostic]:
    """FTC911"""
    adapter = c.settings.adapter
    if adapter and adapter.kind != "rslora" and not 0.25 <= adapter.alpha / adapter.r <= 8:
        yield c.advice(
            "FTC911",
            f"alpha / r is {adapter.alpha / adapter.r:g}, which scales the adapter's learning rate",
            ("adapter", "alpha"),
            f"write `alpha = {2 * adapter.r}`",
        )


def gated_model(c: Context) -> Iterator[Diagnostic]:
    """FTC912"""
    if c.facts.model.gated and c.facts.local_model is None:
        yield c.advice(
            "FTC912",
            f"{c.settings.base} is gated: its licence must be accepted on the hub first",
            ("model", "base"),
            "set HF_TOKEN in the environment of the run",
        )


def flash_built_from_source(c: Context) -> Iterator[Diagnostic]:
    """FTC913"""
    if c.settings.attention == "flash_attention_2":
        yield c.advice(
            "FTC913",
            "flash-attn is compiled when the environment is built, which needs nvcc and up to an hour",
            ("model", "attention"),
            'write `attention = "sdpa"`, which needs nothing',
        )


def rows_cut(c: Context) -> Iterator[Diagnostic]:
    """FTC915"""
    files = [f for (part, _), fs in c.facts.data.files.items() if part == "train" for f in fs]
    longest = max((f.longest_text_bytes or 0 for f in files), default=0) / load_constants().time["bytes_per_token"]
    if longest > 1.5 * c.settings.max_length and not c.settings.packing:
        yield c.advice(
            "FTC915",
            f"the longest row has about {longest:.0f} tokens, max_length cuts at {c.settings.max_length}",
            ("data", "max_length"),
            "run preflight.py, which counts what is cut, or raise `max_length`",
        )


RULES = (
    unusual_learning_rate,
    half_precision_weights_trained,
    unpinned_model,
    unpinned_data,
    nothing_evaluated,
    many_epochs,
    one_checkpoint,
    mostly_padding,
    experts_not_adapted,
    strong_scaling,
    gated_model,
    flash_built_from_source,
    rows_cut,
)
