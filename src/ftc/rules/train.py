"""Schedules, optimizers, checkpoints and evaluation."""

from collections.abc import Iterator

from ftc.diagnostic import Diagnostic
from ftc.facts import load_words
from ftc.rules.context import Context


def fractional_warmup_steps(c: Context) -> Iterator[Diagnostic]:
    """FTC450"""
    warmup = c.settings.warmup
    if warmup >= 1 and warmup != int(warmup):
        yield c.error(
            "FTC450",
            f"warmup {warmup} is neither a share of the run (below 1) nor a number of steps",
            ("train", "warmup"),
            f"write `warmup = {int(warmup)}` for steps, or a value below 1",
        )


def _steps(c: Context) -> int | None:
    """Returns a lower bound of the optimizer steps where the data is local and not packed."""
    if c.settings.max_steps is not None:
        return c.settings.max_steps
    rows = c.train_rows
    if rows is None or c.settings.packing:
        return None
    return max(1, int(-(-rows // c.settings.global_batch) * c.settings.epochs))


def warmup_longer_than_run(c: Context) -> Iterator[Diagnostic]:
    """FTC451"""
    steps = _steps(c)
    if steps is not None and c.settings.warmup >= steps > 0 and c.settings.warmup >= 1:
        yield c.error(
            "FTC451",
            f"warmup takes {c.settings.warmup:g} steps, the run has about {steps}",
            ("train", "warmup"),
            "write `warmup = 0.03`, a share of the run",
        )


def checkpoint_after_end(c: Context) -> Iterator[Diagnostic]:
    """FTC452"""
    steps = _steps(c)
    if steps is not None and c.settings.every > steps:
        yield c.warning(
            "FTC452",
            f"a checkpoint every {c.settings.every:g} steps, the run has about {steps}: none is written before the end",
            ("checkpoint", "every"),
            'write `every = "auto"`',
        )


def scheduler_without_arguments(c: Context) -> Iterator[Diagnostic]:
    """FTC453"""
    needed = load_words()["schedulers_needing"].get(c.settings.scheduler, [])
    given = (c.recipe.train.extra or {}).get("lr_scheduler_kwargs", {})
    if needed and not (isinstance(given, dict) and any(key in given for key in needed)):
        yield c.error(
            "FTC453",
            f"scheduler `{c.settings.scheduler}` needs {' or '.join(f'`{key}`' for key in needed)}",
            ("train", "scheduler"),
            f"add `[train.extra] lr_scheduler_kwargs = {{ {needed[0]} = ... }}`",
        )


def plateau_without_evaluation(c: Context) -> Iterator[Diagnostic]:
    """FTC454"""
    if c.settings.scheduler == "reduce_lr_on_plateau" and not c.settings.has_eval:
        yield c.error(
            "FTC454",
            "`reduce_lr_on_plateau` follows the evaluation loss, and nothing is evaluated",
            ("train", "scheduler"),
            "add `[data] eval_fraction = 0.02`, or another scheduler",
        )


def optimizer_without_package(c: Context) -> Iterator[Diagnostic]:
    """FTC456"""
    name = c.settings.optimizer
    for prefix, package in load_words()["optimizers_needing"].items():
        if name.startswith(prefix):
            yield c.error(
                "FTC456",
                f"optimizer `{name}` needs `{package}`, which stack {c.facts.stack.name} does not pin",
                ("train", "optimizer"),
                'write `optimizer = "adamw_torch_fused"`, or `"adamw_8bit"` for less memory',
            )
            return


def optimizer_off_nvidia(c: Context) -> Iterator[Diagnostic]:
    """FTC455"""
    vendor = c.target.gpu.vendor if c.target else "nvidia"
    if vendor not in ("nvidia", "cpu") and c.settings.optimizer in load_words()["bitsandbytes"]["optimizers"]:
        yield c.error(
            "FTC455",
            f"`{c.settings.optimizer}` is a bitsandbytes optimizer, built for NVIDIA GPUs only",
            ("train", "optimizer"),
            'write `optimizer = "adamw_torch_fused"`',
        )


def noise_not_positive(c: Context) -> Iterator[Diagnostic]:
    """FTC458"""
    noise = (c.recipe.train.extra or {}).get("neftune_noise_alpha")
    if isinstance(noise, int | float) and noise <= 0:
        yield c.error(
            "FTC458",
            f"`neftune_noise_alpha` is {noise}, noise needs a positive scale",
            ("train", "extra", "neftune_noise_alpha"),
            "write 5, or remove it",
        )


def best_without_evaluation(c: Context) -> Iterator[Diagnostic]:
    """FTC510"""
    if c.settings.best and not c.settings.has_eval:
        yield c.error(
            "FTC510",
            f"the best checkpoint by `{c.settings.best}` needs an evaluation, and there is none",
            ("checkpoint", "best"),
            "add `[data] eval_fraction = 0.02`, or `[[data.eval]]`",
        )


def two_evaluations(c: Context) -> Iterator[Diagnostic]:
    """FTC511"""
    if c.recipe.data.eval and c.recipe.data.eval_fraction is not None:
        yield c.error(
            "FTC511",
            "both `eval_fraction` and `[[data.eval]]` say what to evaluate on",
            ("data", "eval_fraction"),
            "keep one of them",
        )


def project_without_tracker(c: Context) -> Iterator[Diagnostic]:
    """FTC459"""
    if c.settings.project and not set(c.settings.trackers) & {"wandb", "mlflow", "trackio"}:
        yield c.error(
            "FTC459",
            "`project` names a project of wandb, mlflow or trackio, and none of them is in `to`",
            ("track", "project"),
            'write `to = ["wandb"]`, or remove `project`',
        )


def nothing_and_something_tracked(c: Context) -> Iterator[Diagnostic]:
    """FTC460"""
    written = c.recipe.track.to if c.recipe.track else ()
    if "none" in written and len(written) > 1:
        yield c.error("FTC460", '`"none"` stands beside other trackers', ("track", "to"), 'remove `"none"`')


RULES = (
    fractional_warmup_steps,
    warmup_longer_than_run,
    checkpoint_after_end,
    scheduler_without_arguments,
    plateau_without_evaluation,
    optimizer_off_nvidia,
    optimizer_without_package,
    noise_not_positive,
    best_without_evaluation,
    two_evaluations,
    project_without_tracker,
    nothing_and_something_tracked,
)
