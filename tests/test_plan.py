"""The planner's promises, over many models, methods, targets and batches."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ftc.compile import Outcome, Request, run_pipeline
from ftc.emit import Job

MODELS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-30B-A3B",
    "google/gemma-2-9b-it",
)
METHODS = {
    "full": "",
    "bf16": "",
    "lora": '[adapter]\nkind = "lora"\n',
    "qlora": '[adapter]\nkind = "lora"\n[quantization]\nbits = 4\n',
}
TARGETS = ("1xRTX4090", "2xA100", "4xL40S", "8xH100", "2x8xH100", "8x8xA100", "1xT4")
RECIPE = """\
name = "case"
[model]
base = "{model}"
{dtype}
{method}
[method]
kind = "sft"
loss_on = "all"
[data]
max_length = {length}
eval_fraction = 0.1
[[data.train]]
source = "owner/rows"
format = "chat"
[train]
global_batch = {batch}
[plan]
{plan}
"""
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(folder: Path, target: str, *, model: str, method: str, length: int, batch: int, plan: str = "") -> Outcome:
    dtype = 'dtype = "bfloat16"' if method == "bf16" and "T4" not in target else ""
    text = RECIPE.format(model=model, dtype=dtype, method=METHODS[method], length=length, batch=batch, plan=plan)
    path = folder / "recipe.toml"
    path.write_text(text)
    return run_pipeline(Request(recipe=path, gpus=target))


CASES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "method": st.sampled_from(sorted(METHODS)),
        "length": st.sampled_from((512, 2048, 8192)),
        "batch": st.sampled_from((1, 6, 32, 64, 96, 512)),
    }
)


def job_of(outcome: Outcome) -> Job:
    assume(outcome.work is not None)
    assert outcome.work is not None
    return outcome.work


@FAST
@given(case=CASES, target=st.sampled_from(TARGETS))
def test_a_plan_fits_or_says_so_and_keeps_the_batch(case: dict, target: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    outcome = run(tmp_path, target, **case)
    if outcome.work is None:
        assert outcome.report.failed
        return
    plan, hardware = outcome.work.plan, outcome.work.target
    candidate, budget = plan.candidate, plan.budget
    assert plan.fits == (budget.high_bytes <= hardware.memory_bytes) == (not outcome.report.failed)
    assert candidate.micro_batch * candidate.gradient_accumulation * hardware.world_size == case["batch"]
    assert budget.low_bytes <= budget.peak_bytes <= budget.high_bytes
    assert sum(budget.components.values()) == budget.peak_bytes
    assert all(sum(parts.values()) <= budget.allocated_bytes for parts in budget.phases.values())
    assert sum(budget.phases[budget.peak_phase].values()) == budget.allocated_bytes


@FAST
@given(case=CASES, strategy=st.sampled_from(("ddp", "zero1", "zero2", "zero3", "fsdp2")))
def test_more_gpus_never_need_more_memory_each(case: dict, strategy: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    plan = f'strategy = "{strategy}"\nmicro_batch = 1\ngradient_checkpointing = true\noffload = "none"'
    case = {**case, "batch": 64}
    few = job_of(run(tmp_path, "2xH100", **case, plan=plan))
    for target in ("4xH100", "8xH100", "2x8xH100", "4x8xH100"):
        more = job_of(run(tmp_path, target, **case, plan=plan))
        assert more.plan.budget.peak_bytes <= few.plan.budget.peak_bytes, target
        few = more


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES, target=st.sampled_from(("1xRTX4090", "1xA100", "4xL40S", "1xT4")))
def test_every_hint_when_followed_fits(case: dict, target: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    plan = 'offload = "none"\ngradient_checkpointing = false'
    outcome = run(tmp_path, target, **case, plan=plan)
    hints = [h for d in outcome.report.diagnostics if d.code == "FTC201" for h in d.hints]
    for hint in hints:
        if hint == "take a smaller model":
            assert len(hints) == 1, "only where no single change is enough"
            continue
        follow(hint, tmp_path, target, case, plan)


def follow(hint: str, folder: Path, target: str, case: dict, plan: str) -> None:  # type: ignore[type-arg]
    """Does what a hint says and demands that it fits."""
    text = (folder / "recipe.toml").read_text()
    gpus = re.search(r"--gpus ([^`]+)`", hint)
    removed = re.search(r"remove `(\w+)` from `\[plan\]`", hint)
    written = re.search(r"write `\[(\w+)\] (\w+) = ([^`]+)`", hint)
    added = re.findall(r"`\[(\w+)\] (\w+ = [^`]+)`", hint) if hint.startswith("add") else []
    overrides: tuple[str, ...] = ()
    if removed:
        text = re.sub(rf"(?m)^{removed[1]} = .*\n", "", text)
    for table, line in added:
        text += f"[{table}]\n{line}\n"
    if written:
        overrides = (f"{written[1]}.{written[2]}={written[3]}",)
    path = folder / "followed.toml"
    path.write_text(text)
    outcome = run_pipeline(Request(recipe=path, gpus=gpus[1] if gpus else target, overrides=overrides))
    codes = [d.code for d in outcome.report.diagnostics if d.severity == "error"]
    assert not codes, (hint, codes)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    outcome = run(tmp_path, "8xH100", model=MODELS[0], method="full", length=512, batch=20)
    assert [d.code for d in outcome.report.diagnostics if d.severity == "error"] == ["FTC301"]


@pytest.mark.parametrize("objective", ["time", "memory"])
def test_the_objective_is_followed(objective: str, tmp_path: Path) -> None:
    case = {"model": MODELS[1], "method": "lora", "length": 2048, "batch": 64}
    plan = run(tmp_path, "8xH100", **case, plan=f'objective = "{objective}"').work
    other = run(tmp_path, "8xH100", **case, plan=f'objective = "{"time" if objective == "memory" else "memory"}"').work
    assert plan is not None and other is not None
    mine, theirs = plan.plan, other.plan
    if objective == "memory":
        assert mine.budget.high_bytes <= theirs.budget.high_bytes
    else:
        assert (mine.duration.step_seconds or 0) <= (theirs.duration.step_seconds or 0)
