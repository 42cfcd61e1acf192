"""The pipeline: read -> Source -> Recipe -> Facts -> checks -> Plan -> Bundle. `write` stands in `ftc.disk`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ftc.diagnostic import Diagnostic, Report, make_report
from ftc.emit import Bundle, Job, emit_bundle
from ftc.facts import Facts
from ftc.plan import Plan, choose_plan
from ftc.plan.choose import gib
from ftc.plan.remedies import Remedy, list_remedies
from ftc.recipe import Recipe, apply_overrides, load_recipe
from ftc.resolve import resolve
from ftc.rules import Context, check_numbers, check_recipe, check_text
from ftc.settings import Settings, settle
from ftc.site import Site, load_site
from ftc.source import Source, parse_source

_MOST_HINTS, _MOST_TARGETS = 5, 2


class Request(NamedTuple):
    """What the command line asks for."""

    recipe: Path
    gpus: str | None = None
    site: Path | None = None
    overrides: tuple[str, ...] = ()
    locked: bool = False
    with_data: bool = False


class Outcome(NamedTuple):
    """How far the pipeline came. `name` is the recipe's, where it was read; `work` is there once a plan is."""

    report: Report
    name: str | None = None
    work: Job | None = None


class _Checked(NamedTuple):
    recipe: Recipe
    source: Source
    facts: Facts
    settings: Settings
    diagnostics: tuple[Diagnostic, ...]


def run_pipeline(request: Request) -> Outcome:
    """Returns every diagnostic of the stage that fails first, or the plan where none does."""
    source, faults = _read(request)
    if source is None or faults:
        return Outcome(report=make_report(faults))
    recipe, faults = load_recipe(source)
    if recipe is None:
        return Outcome(report=make_report(faults))
    site, faults = _read_site(request.site)
    if site is None:
        return Outcome(report=make_report(faults), name=recipe.name)
    checked = _check(request, recipe, source)
    if isinstance(checked, Report):
        return Outcome(report=checked, name=recipe.name)
    report = make_report(checked.diagnostics)
    if report.failed or checked.facts.target is None:
        return Outcome(report=report, name=recipe.name)
    return _plan(request, checked, site)


def build_bundle(work: Job) -> Bundle:
    """Returns the bundle of a plan that fits."""
    return emit_bundle(work)


def _read(request: Request) -> tuple[Source | None, tuple[Diagnostic, ...]]:
    read = read_source(request.recipe)
    if isinstance(read, Diagnostic):
        return None, (read,)
    source, faults = apply_overrides(read, request.overrides)
    return source, (*faults, *check_text(source), *check_numbers(source))


def read_source(path: Path) -> Source | Diagnostic:
    """Returns the file as a Source; the name in diagnostics is the path as it was typed."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = "check the path"
        return Diagnostic(code="FTC004", severity="error", message=f"cannot read `{path}`: {reason}", hints=(hint,))
    return parse_source(raw, str(path))


def _read_site(path: Path | None) -> tuple[Site | None, tuple[Diagnostic, ...]]:
    if path is None:
        return Site(), ()
    source = read_source(path)
    if isinstance(source, Diagnostic):
        return None, (source,)
    faults = (*check_text(source), *check_numbers(source))
    return load_site(source) if not faults else (None, faults)


def _check(request: Request, recipe: Recipe, source: Source) -> _Checked | Report:
    facts, faults = resolve(recipe, source, request.recipe.parent, request.gpus)
    if facts is None:
        return make_report(faults)
    settings = settle(recipe, source, facts)
    context = Context(recipe=recipe, source=source, facts=facts, settings=settings, locked=request.locked)
    found = check_recipe(context)
    return _Checked(recipe=recipe, source=source, facts=facts, settings=settings, diagnostics=found)


def _plan(request: Request, checked: _Checked, site: Site) -> Outcome:
    plan = choose_plan(checked.recipe.plan, checked.settings, checked.facts, _written(checked))
    name = checked.recipe.name
    assert plan is not None, "the rules refuse every recipe that has no legal candidate"
    work = Job(
        recipe=checked.recipe,
        source=checked.source,
        facts=checked.facts,
        settings=checked.settings,
        plan=plan,
        site=site,
        with_data=request.with_data,
        overrides=request.overrides,
    )
    faults = tuple(_judge(request, checked, plan, site))
    return Outcome(report=make_report((*checked.diagnostics, *faults)), name=name, work=work)


def _written(checked: _Checked) -> Mapping[str, str]:
    """Returns for each pinned key of `[plan]` where it was written."""
    keys = [k for k in type(checked.recipe.plan).model_fields if checked.source.has("plan", k)]
    spans = {key: checked.source.key("plan", key) for key in keys}
    return {k: "written with --set" if s.file == "--set" else f"recipe.toml line {s.line}" for k, s in spans.items()}


def _judge(request: Request, checked: _Checked, plan: Plan, site: Site) -> list[Diagnostic]:
    """Returns FTC201 where the plan does not fit, FTC202 where it fits barely, FTC203 where the host is too small."""
    facts, target = checked.facts, checked.facts.target
    assert target is not None
    span = checked.source.value("model", "base")
    budget = plan.budget
    faults: list[Diagnostic] = []
    place = "a process" if target.gpu.is_cpu else f"each {target.gpu.name}"
    if not plan.fits:
        unit = "process" if target.gpu.is_cpu else "GPU"
        what = f"{checked.settings.name} needs up to {gib(budget.high_bytes)} per {unit}"
        parts = ", ".join(f"{n} {gib(b)}" for n, b in budget.components.items() if b > budget.peak_bytes // 20)
        faults.append(
            Diagnostic(
                code="FTC201",
                severity="error",
                message=f"{what}, {place} has {gib(target.memory_bytes)}",
                span=span,
                label=f"{facts.model.params_total / 1e9:.2f} B parameters",
                notes=(f"at the peak ({budget.peak_phase}): {parts}", _tried(plan)),
                hints=_find_remedies(request, checked) or ("take a smaller model",),
            )
        )
    elif budget.high_bytes > 0.95 * target.memory_bytes:
        left = gib(target.memory_bytes - budget.high_bytes)
        message = f"the plan fits, with {left} to spare at the upper bound"
        hint = "keep other processes off the GPU, or write a smaller `[data] max_length`"
        faults.append(Diagnostic(code="FTC202", severity="warning", message=message, span=span, hints=(hint,)))
    faults += _judge_host(checked, plan, site)
    return faults


def _find_remedies(request: Request, checked: _Checked) -> tuple[str, ...]:
    """Returns hints that were followed as the user would, and fit."""
    found: list[tuple[Remedy, int]] = []
    for remedy in list_remedies(checked.recipe.plan, checked.settings, checked.facts):
        enough_hardware = remedy.gpus is not None and sum(r.gpus is not None for r, _ in found) == _MOST_TARGETS
        if enough_hardware or (len(remedy.freed) > 1 and found):
            continue
        need = _follow(request, checked, remedy)
        if need is not None:
            found.append((remedy, need))
        if len(found) == _MOST_HINTS:
            break
    return tuple(f"{remedy.text} (needs {gib(need)})" for remedy, need in found)


def _follow(request: Request, checked: _Checked, remedy: Remedy) -> int | None:
    """Returns the bytes that each GPU needs with the change, or None where it is refused or does not fit."""
    source = _without(checked.source, remedy.freed)
    source, _ = apply_overrides(source, remedy.overrides)
    recipe, _ = load_recipe(source)
    if recipe is None:
        return None
    changed = _check(request._replace(gpus=remedy.gpus or request.gpus), recipe, source)
    if isinstance(changed, Report) or make_report(changed.diagnostics).failed:
        return None
    plan = choose_plan(recipe.plan, changed.settings, changed.facts, _written(changed))
    return plan.budget.high_bytes if plan is not None and plan.fits else None


def _without(source: Source, keys: tuple[str, ...]) -> Source:
    """Returns the source as it would be without these keys of `[plan]`."""
    if not keys:
        return source
    data = {**source.data, "plan": {k: v for k, v in source.data["plan"].items() if k not in keys}}
    gone = {("plan", key) for key in keys}
    spans = {path: span for path, span in source.keys.items() if path not in gone}
    return source._replace(data=data, keys=spans)


def _tried(plan: Plan) -> str:
    c = plan.candidate
    recompute = "on" if c.gradient_checkpointing else "off"
    return (
        f"the smallest plan: {c.strategy}, micro batch {c.micro_batch}, checkpointing {recompute}, offload {c.offload}"
    )


def _judge_host(checked: _Checked, plan: Plan, site: Site) -> list[Diagnostic]:
    memory = site.node.memory_gib
    if memory is None or plan.budget.host_bytes_per_node <= memory * 2**30:
        return []
    message = f"a node needs {gib(plan.budget.host_bytes_per_node)} of host memory, the site's have {memory} GiB"
    hints = ('write `[plan] strategy = "fsdp2"`, which loads the weights once a node, or use larger nodes',)
    span = checked.source.value("model", "base")
    return [Diagnostic(code="FTC203", severity="error", message=message, span=span, hints=hints)]
