"""The planner's promises, over models, methods, GPUs, lengths and batches that are drawn at random."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from ftc.cli import main
from ftc.compile import Outcome, Request, run_pipeline
from ftc.emit import Job
from ftc.facts import load_gpus
from ftc.plan import Budget, Candidate

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
TARGETS: dict[str, str] = tomllib.loads((RECIPES / "targets.toml").read_text(encoding="utf-8"))
CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]
MODELS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-4B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen2.5-14B-Instruct",
    "google/gemma-2-9b-it",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
    "mistralai/Mistral-7B-v0.3",
)
ADAPTERS = {
    "full": "",
    "lora": '[adapter]\nkind = "lora"\nr = {r}\n',
    "dora": '[adapter]\nkind = "dora"\nr = {r}\n',
    "qlora": '[adapter]\nkind = "lora"\nr = {r}\n[quantization]\nbits = 4\n',
    "int8": '[adapter]\nkind = "lora"\nr = {r}\n[quantization]\nbits = 8\n',
}
STRATEGIES = ("single", "ddp", "zero1", "zero2", "zero3", "fsdp2")
GPUS = tuple(g.name for g in load_gpus() if g.usable_memory_bytes and not g.is_cpu)


class Case(NamedTuple):
    """A recipe in few words. `plan` are the lines of `[plan]`."""

    model: str = "Qwen/Qwen3-4B"
    method: str = "full"
    r: int = 16
    length: int = 1024
    batch: int = 16
    packing: bool = False
    dtype: str = "auto"
    optimizer: str = "auto"
    attention: str = "auto"
    new_tokens: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        tokens = f"new_tokens = {json.dumps(list(self.new_tokens))}\n" if self.new_tokens else ""
        return (
            f'name = "case"\n[model]\nbase = "{self.model}"\ndtype = "{self.dtype}"\nattention = "{self.attention}"\n'
            f'{tokens}[method]\nkind = "sft"\nloss_on = "all"\n[data]\nmax_length = {self.length}\n'
            f"packing = {str(self.packing).lower()}\neval_fraction = 0.1\n"
            f'[[data.train]]\nsource = "owner/rows"\nformat = "text"\n'
            f'[train]\nglobal_batch = {self.batch}\noptimizer = "{self.optimizer}"\n'
            + ADAPTERS[self.method].format(r=self.r)
            + "".join(f"{line}\n" for line in ("[plan]", *self.plan))
        )


PLANS = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.sampled_from(STRATEGIES),
        "micro_batch": st.sampled_from([1, 2, 4, 8]),
        "gradient_checkpointing": st.booleans(),
        "offload": st.sampled_from(["none", "optimizer", "params"]),
        "objective": st.sampled_from(["time", "memory"]),
    },
).map(lambda pins: tuple(f"{key} = {json.dumps(value)}" for key, value in pins.items()))


def cases(plans: st.SearchStrategy[tuple[str, ...]] = PLANS, batch: int | None = None) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        model=st.sampled_from(MODELS),
        method=st.sampled_from(list(ADAPTERS)),
        r=st.sampled_from([8, 64, 256]),
        length=st.sampled_from([128, 512, 2000, 4096, 8192]),
        batch=st.sampled_from([1, 2, 6, 16, 32, 48, 64, 100, 128, 256]) if batch is None else st.just(batch),
        packing=st.booleans(),
        dtype=st.sampled_from(["auto", "auto", "float32", "bfloat16", "float16"]),
        optimizer=st.sampled_from(["auto", "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"]),
        attention=st.sampled_from(["auto", "sdpa", "eager"]),
        new_tokens=st.sampled_from([(), (), ("<|a|>", "<|b|>")]),
        plan=plans,
    )


COUNTS = st.one_of(
    st.integers(1, 8).map(str), st.tuples(st.integers(2, 8), st.sampled_from([1, 2, 4, 8])).map("{0[0]}x{0[1]}".format)
)
TARGET = st.builds("{}x{}".format, COUNTS, st.sampled_from(GPUS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planner")


def run(folder: Path, text: str, gpus: str, *overrides: str) -> Outcome:
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return run_pipeline(Request(recipe=folder / "recipe.toml", gpus=gpus, overrides=overrides))


def errors(outcome: Outcome) -> set[str]:
    return {d.code for d in outcome.report.diagnostics if d.severity == "error"}


# --- A plan ------------------------------------------------------------------------------------------------------


def judge_budget(budget: Budget) -> None:
    assert 0 < budget.low_bytes <= budget.peak_bytes <= budget.high_bytes
    assert sum(budget.components.values()) == budget.peak_bytes
    totals = {phase: sum(parts.values()) for phase, parts in budget.phases.items()}
    assert totals[budget.peak_phase] == max(totals.values()) == budget.allocated_bytes <= budget.peak_bytes
    assert all(part >= 0 for parts in (*budget.phases.values(), budget.components) for part in parts.values())
    assert budget.host_bytes_per_node > 0 and budget.disk_bytes > 0


def judge_candidate(candidate: Candidate, case: Case, work: Job) -> None:
    world = work.target.world_size
    assert candidate.micro_batch * candidate.gradient_accumulation * world == case.batch
    for line in case.plan:
        key, value = line.split(" = ")
        if key != "objective":
            assert getattr(candidate, key) == json.loads(value)
    assert (candidate.strategy == "single") <= (world == 1)


@given(cases(), TARGET)
@settings(max_examples=150, deadline=None, suppress_health_check=CHECKS)
@example(Case(batch=1), "64xA100-80GB-SXM")
@example(Case(method="qlora", batch=64, length=8192, packing=True), "8x8xH100-80GB-SXM")
def test_a_plan_keeps_its_promises(folder: Path, case: Case, gpus: str) -> None:
    outcome = run(folder, case.text, gpus)
    if outcome.work is None:
        assert errors(outcome)
        return
    work, plan = outcome.work, outcome.work.plan
    judge_budget(plan.budget)
    judge_candidate(plan.candidate, case, work)
    assert plan.fits == (plan.budget.high_bytes <= work.target.memory_bytes)
    assert ("FTC201" in errors(outcome)) == (not plan.fits)
    for other in plan.alternatives:
        assert other.costed.candidate != plan.candidate and other.why_not
        judge_candidate(other.costed.candidate, case, work)
        judge_budget(other.costed.budget)
        if not plan.fits:
            assert other.costed.budget.high_bytes > work.target.memory_bytes
    for key, choice in plan.choices.items():
        assert choice.because and choice.value == getattr(plan.candidate, key)
        assert (choice.origin == "recipe") == any(line.startswith(f"{key} =") for line in case.plan)


@given(cases(), TARGET)
@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
def test_a_batch_that_does_not_divide_is_refused(folder: Path, case: Case, gpus: str) -> None:
    outcome = run(folder, case.text, gpus)
    sizes = [int(n) for n in re.findall(r"(\d+)x", gpus)]
    world = sizes[0] * (sizes[1] if len(sizes) > 1 else 1)
    micro = [int(line.split(" = ")[1]) for line in case.plan if line.startswith("micro_batch")]
    if case.batch % world:
        assert outcome.work is None and "FTC301" in errors(outcome)
    elif micro and case.batch % (micro[0] * world):
        assert outcome.work is None and "FTC313" in errors(outcome)
    else:
        assert not {"FTC301", "FTC313", "FTC300"} & errors(outcome)


@given(cases(st.just(())), TARGET)
@settings(max_examples=40, deadline=None, suppress_health_check=CHECKS)
def test_a_plan_is_the_same_each_time_and_when_it_is_pinned(folder: Path, case: Case, gpus: str) -> None:
    work = run(folder, case.text, gpus).work
    assume(work is not None)
    assert work is not None
    again = run(folder, case.text, gpus).work
    assert again is not None and again.plan == work.plan
    keys = ("strategy", "micro_batch", "gradient_checkpointing", "offload")
    pins = tuple(f"{key} = {json.dumps(getattr(work.plan.candidate, key))}" for key in keys)
    pinned = run(folder, case._replace(plan=pins).text, gpus).work
    assert pinned is not None
    assert (pinned.plan.candidate, pinned.plan.budget) == (work.plan.candidate, work.plan.budget)


@given(cases(st.just(())), TARGET)
@settings(max_examples=40, deadline=None, suppress_health_check=CHECKS)
def test_the_memory_objective_never_needs_more(folder: Path, case: Case, gpus: str) -> None:
    fast = run(folder, case.text, gpus).work
    small = run(folder, case._replace(plan=('objective = "memory"',)).text, gpus).work
    assume(fast is not None and small is not None)
    assert fast is not None and small is not None
    assert small.plan.fits == fast.plan.fits
    assert small.plan.budget.high_bytes <= fast.plan.budget.high_bytes
    seconds = (fast.plan.duration.step_seconds, small.plan.duration.step_seconds)
    if fast.plan.fits and seconds[0] and seconds[1]:
        assert seconds[0] <= seconds[1] * 1.05


# --- More and fewer GPUs -----------------------------------------------------------------------------------------

PINS = st.builds(
    "strategy = {}\nmicro_batch = {}\ngradient_checkpointing = {}\noffload = {}".format,
    st.sampled_from([f'"{s}"' for s in STRATEGIES if s != "single"]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["true", "false"]),
    st.sampled_from(['"none"', '"optimizer"', '"params"']),
).map(lambda lines: tuple(lines.split("\n")))
DOUBLED = ("2", "4", "8", "2x8", "4x8", "8x8")


@given(cases(PINS, batch=256), st.sampled_from(["A100-80GB-SXM", "H100-80GB-SXM", "L40S", "V100-32GB-SXM2"]))
@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
def test_twice_the_gpus_never_need_more_memory_each(folder: Path, case: Case, gpu: str) -> None:
    works = [run(folder, case.text, f"{count}x{gpu}").work for count in DOUBLED]
    assume(any(works))
    budgets = [work.plan.budget for work in works if work is not None]
    assert len(budgets) == len(DOUBLED), "legal on some counts only"
    for fewer, more in pairwise(budgets):
        assert more.allocated_bytes <= fewer.allocated_bytes
        assert more.peak_bytes <= fewer.peak_bytes
        assert more.high_bytes <= fewer.high_bytes


@given(cases(PINS, batch=256), st.sampled_from(["micro_batch", "length", "gradient_checkpointing", "r"]))
@settings(max_examples=80, deadline=None, suppress_health_check=CHECKS)
def test_more_work_at_once_never_needs_less_memory(folder: Path, case: Case, what: str) -> None:
    pins = dict(line.split(" = ") for line in case.plan)
    match what:
        case "micro_batch":
            bigger = case._replace(plan=pinned({**pins, "micro_batch": str(2 * int(pins["micro_batch"]))}))
        case "length":
            bigger = case._replace(length=2 * case.length)
        case "r":
            bigger = case._replace(r=2 * case.r)
        case _:
            bigger = case._replace(plan=pinned({**pins, "gradient_checkpointing": "false"}))
            case = case._replace(plan=pinned({**pins, "gradient_checkpointing": "true"}))
    works = [run(folder, c.text, "8xH100").work for c in (case, bigger)]
    assume(all(works))
    assert works[0] is not None and works[1] is not None
    assert works[0].plan.budget.peak_bytes <= works[1].plan.budget.peak_bytes


def pinned(pins: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{key} = {value}" for key, value in pins.items())


@given(cases(st.just(())), st.sampled_from(GPUS), st.sampled_from(["1", "2", "4", "8"]))
@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
def test_the_same_gpu_in_twice_the_number_still_fits(folder: Path, case: Case, gpu: str, count: str) -> None:
    """What fits on n GPUs fits on 2n: from 2 up at the least, where the batch divides."""
    assume(count != "1")
    fewer = run(folder, case.text, f"{count}x{gpu}")
    more = run(folder, case.text, f"2x{count}x{gpu}")
    assume(fewer.work is not None and fewer.work.plan.fits and "FTC301" not in errors(more))
    assert more.work is not None
    assert more.work.plan.fits


# --- Hints -------------------------------------------------------------------------------------------------------

WRITE = re.compile(r"write `\[(\w+)\] (\w+) = ([^`]+)`")
ADD = re.compile(r"`\[(\w+)\] (\w+) = ([^`]+)`")


def follow(folder: Path, text: str, gpus: str, hint: str) -> Outcome:
    """Does what a hint says, as a user would."""
    if target := re.match(r"use `--gpus (\S+)`", hint):
        return run(folder, text, target[1])
    if key := re.match(r"remove `(\w+)` from `\[plan\]`", hint):
        return run(folder, re.sub(rf"(?m)^{key[1]} = .*\n", "", text), gpus)
    if hint.startswith("remove `[plan]`"):
        return run(folder, re.sub(r"(?m)^(strategy|micro_batch|offload|gradient_checkpointing) = .*\n", "", text), gpus)
    assert hint.startswith(("write `[", "add `[")), hint
    assert WRITE.match(hint) or hint.startswith("add")
    return run(folder, text, gpus, *(f"{table}.{key}={value}" for table, key, value in ADD.findall(hint)))


TIGHT = st.sampled_from(
    ["1xL4", "1xRTX4090", "2xA100-40GB", "4xL40S", "1xA100", "8xA100", "2x8xH100", "1xV100-32GB", "1xT4", "1xMI300X"]
)


@given(cases(), TIGHT)
@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@example(Case(model=MODELS[6], batch=64), "8xA100")
@example(Case(model=MODELS[6], batch=64, new_tokens=("<|a|>",)), "2xA100")
@example(Case(model=MODELS[6], batch=64, dtype="float32"), "8xA100")
@example(Case(model=MODELS[6], batch=64, dtype="float32", method="lora"), "2xA100")
@example(Case(model=MODELS[5], batch=16, plan=('strategy = "ddp"', "micro_batch = 8")), "2xA100-40GB")
@example(Case(model=MODELS[5], batch=16, plan=('strategy = "single"',)), "1xRTX4090")
@example(Case(model=MODELS[5], batch=16, plan=('offload = "none"',), optimizer="adamw_8bit"), "1xRTX4090")
@example(Case(model=MODELS[4], batch=16, plan=('strategy = "single"', 'offload = "none"'), length=8192), "1xL4")
@example(Case(model=MODELS[4], batch=2, length=128, optimizer="adamw_8bit", new_tokens=("<|a|>",)), "1xL4")
@example(Case(model=MODELS[4], batch=1, length=128, optimizer="adamw_8bit", dtype="float32"), "1xL4")
@example(Case(model=MODELS[5], method="dora", r=256, length=128, batch=48, dtype="float16"), "1xT4")
@example(Case(model=MODELS[4], batch=6, length=4096, attention="flash_attention_2"), "1xRTX4090")
@example(Case(model=MODELS[6], method="lora", r=256, length=512, batch=100, packing=True), "1xMI300X")
def test_a_hint_that_is_followed_fits(folder: Path, case: Case, gpus: str) -> None:
    outcome = run(folder, case.text, gpus)
    hints = [hint for d in outcome.report.diagnostics if d.code == "FTC201" for hint in d.hints]
    assume(hints)
    for hint in hints:
        if hint == "take a smaller model":
            continue
        done = follow(folder, case.text, gpus, hint)
        told = [(d.code, d.message) for d in done.report.diagnostics if d.severity == "error"]
        assert done.work is not None and not told, f"{hint}: {told}"
        assert done.work.plan.fits, hint


@given(cases(), TIGHT)
@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
def test_a_recipe_that_does_not_fit_is_told_what_would(folder: Path, case: Case, gpus: str) -> None:
    outcome = run(folder, case.text, gpus)
    for d in outcome.report.diagnostics:
        if d.code == "FTC201":
            assert d.hints and d.span is not None and d.notes
            assert len(d.hints) == len(set(d.hints))


# --- What is printed ---------------------------------------------------------------------------------------------

NUMBER = (int, float)
CONTRACT: dict[str, Any] = {
    "name": str,
    "fits": bool,
    "target": {"gpu": str, "nodes": int, "gpus_per_node": int, "memory_gib": NUMBER},
    "plan": {
        "strategy": str,
        "micro_batch": int,
        "gradient_accumulation": int,
        "gradient_checkpointing": bool,
        "offload": str,
        "attention": str,
        "optimizer": str,
        "kernels": str,
        "packing": bool,
    },
    "because": {"strategy": str, "micro_batch": str},
    "memory": {
        **dict.fromkeys(
            ("peak_gib", "low_gib", "high_gib", "allocated_gib", "headroom_gib", "host_gib_per_node"), NUMBER
        ),
        "peak_phase": str,
        "disk_gib": NUMBER,
        "components_gib": dict.fromkeys(
            ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "communication", "runtime"),
            NUMBER,
        ),
    },
    "time": dict.fromkeys(
        ("step_seconds", "tokens_per_second_per_gpu", "hours", "low_hours", "high_hours", "cost"),
        (*NUMBER, type(None)),
    ),
    "alternatives": list,
    "diagnostics": list,
}
ALTERNATIVE: dict[str, Any] = {
    "plan": CONTRACT["plan"],
    "peak_gib": NUMBER,
    "hours": (*NUMBER, type(None)),
    "why_not": str,
}
DIAGNOSTIC: dict[str, Any] = {
    "code": str,
    "severity": str,
    "message": str,
    "file": (str, type(None)),
    "line": (int, type(None)),
    "column": (int, type(None)),
    "hints": list,
}


def breaches(value: Any, contract: Any, path: str = "") -> Iterator[str]:
    """Yields what of the contract is not there; more than it names may be."""
    if isinstance(contract, dict):
        for key, inner in contract.items():
            if not isinstance(value, dict) or key not in value:
                yield f"{path}.{key} is missing"
            else:
                yield from breaches(value[key], inner, f"{path}.{key}")
    elif not isinstance(value, contract) or (isinstance(value, bool) and contract is not bool):
        yield f"{path} is {value!r}"


@pytest.mark.parametrize("recipe", sorted(TARGETS))
def test_the_json_keeps_its_contract(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    for gpus in (TARGETS[recipe], "1xL4", "2x8xH100"):
        with pytest.raises(SystemExit) as stop:
            main(["plan", str(RECIPES / f"{recipe}.toml"), "--gpus", gpus, "--json"])
        report = json.loads(capsys.readouterr().out)
        if "plan" not in report:
            assert stop.value.code == 1 and gpus != TARGETS[recipe]
            continue
        assert stop.value.code == (0 if report["fits"] else 1)
        assert list(breaches(report, CONTRACT)) == []
        assert [b for a in report["alternatives"] for b in breaches(a, ALTERNATIVE)] == []
        assert [b for d in report["diagnostics"] for b in breaches(d, DIAGNOSTIC)] == []
        memory = report["memory"]
        assert sum(memory["components_gib"].values()) == pytest.approx(memory["peak_gib"], abs=0.01)
        assert memory["low_gib"] <= memory["peak_gib"] <= memory["high_gib"]
        assert memory["headroom_gib"] == pytest.approx(report["target"]["memory_gib"] - memory["peak_gib"], abs=0.01)
        assert set(report["because"]) >= set(report["plan"]) - {"kernels"}
