"""Names in the recipe -> Facts; an unknown name gets the nearest one that exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ftc.diagnostic import Diagnostic, did_you_mean, nearest
from ftc.facts import (
    DataFacts,
    Facts,
    LocalModel,
    ModelFacts,
    RowFacts,
    StackFacts,
    find_alias,
    load_catalog,
    load_stack,
    model_names,
    parse_target,
    stack_names,
)
from ftc.paths import path_fault
from ftc.probe import probe_files, probe_model
from ftc.probe.data import EXTENSIONS
from ftc.recipe import Recipe, SourceTable
from ftc.source import Source

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MAX_TEMPLATE_BYTES = 2**20


class _Place(NamedTuple):
    """Where names are looked up: the recipe, its text and its folder."""

    recipe: Recipe
    source: Source
    folder: Path


def resolve(
    recipe: Recipe, source: Source, folder: Path, gpus: str | None
) -> tuple[Facts | None, tuple[Diagnostic, ...]]:
    """Returns the facts behind every name in the recipe, or None and everything that could not be found."""
    place = _Place(recipe=recipe, source=source, folder=folder)
    stack = _find_stack(place)
    model = _find_model(place)
    data, faults = _find_data(place)
    target = parse_target(gpus) if gpus is not None else None
    template = _find_template(place)
    found = (stack, model, target, template)
    faults = [*[f for f in found if isinstance(f, Diagnostic)], *faults]
    if isinstance(stack, StackFacts):
        faults += _unknown_words(place, stack)
    if faults or isinstance(stack, Diagnostic) or isinstance(model, Diagnostic) or isinstance(target, Diagnostic):
        return None, tuple(faults)
    assert not isinstance(template, Diagnostic)
    facts, local = model
    return Facts(model=facts, stack=stack, target=target, data=data, local_model=local, template_file=template), ()


def _find_stack(place: _Place) -> StackFacts | Diagnostic:
    names = stack_names()
    name = place.recipe.stack or names[-1]
    stack = load_stack(name)
    if stack is not None:
        return stack
    return Diagnostic(
        code="FTC113",
        severity="error",
        message=f"unknown stack `{name[:80]}`",
        span=place.source.value("stack"),
        hints=did_you_mean(name, names),
    )


def _find_model(place: _Place) -> tuple[ModelFacts, LocalModel | None] | Diagnostic:
    base = place.recipe.model.base
    span = place.source.value("model", "base")
    catalogued = load_catalog(base)
    if catalogued is not None:
        return catalogued, None
    name = base.removeprefix("./").rstrip("/")
    fault = path_fault(name)
    if base.startswith((".", "/", "~")) and fault:
        return Diagnostic(
            code="FTC601",
            severity="error",
            message=f"`base` may not name this folder: {fault}",
            span=span,
            hints=("put the model folder, or a link to it, beside the recipe",),
        )
    if fault is None and (place.folder / name / "config.json").is_file():
        return probe_model(place.folder, name, span)
    return _unknown_model(base, place)


def _unknown_model(base: str, place: _Place) -> Diagnostic:
    notes = ("a model that is not in the catalog works as a local folder with its config.json and safetensors",)
    near = find_alias(base) or nearest(base, model_names()) or _nearest_by_last_part(base)
    hints = (f"write `{near}`",) if near else ("`ftc catalog models` lists what is known",)
    return Diagnostic(
        code="FTC108",
        severity="error",
        message=f"unknown model `{base[:120]}`",
        span=place.source.value("model", "base"),
        notes=notes,
        hints=hints,
    )


def _nearest_by_last_part(base: str) -> str | None:
    """Returns the model whose name without its owner is nearest: the owner is what people forget."""
    by_short = {name.rsplit("/", 1)[-1]: name for name in model_names()}
    short = nearest(base.rsplit("/", 1)[-1], by_short)
    return by_short[short] if short else None


def _find_template(place: _Place) -> tuple[str, str] | Diagnostic | None:
    name = place.recipe.model.chat_template
    if name is None or not name.endswith(".jinja"):
        return None
    span = place.source.value("model", "chat_template")
    fault = path_fault(name)
    if fault:
        return Diagnostic(
            code="FTC601",
            severity="error",
            message=f"`chat_template` may not name this file: {fault}",
            span=span,
            hints=("put the template beside the recipe",),
        )
    path = place.folder / name
    if not path.is_file() or path.stat().st_size > _MAX_TEMPLATE_BYTES:
        return Diagnostic(
            code="FTC501",
            severity="error",
            message=f"no file `{name}`",
            span=span,
            hints=("the path is relative to the recipe's folder",),
        )
    try:
        return name, path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        hint = "save the template as UTF-8"
        return Diagnostic(code="FTC002", severity="error", message=f"`{name}` is not UTF-8", span=span, hints=(hint,))


def is_local(source: SourceTable) -> bool:
    """Returns whether a source names files beside the recipe, not a data set on the hub."""
    text = source.source
    return Path(text).suffix in EXTENSIONS or any(mark in text for mark in "*?[") or text.startswith((".", "/", "~"))


def _find_data(place: _Place) -> tuple[DataFacts, list[Diagnostic]]:
    files: dict[tuple[str, int], tuple[RowFacts, ...]] = {}
    faults: list[Diagnostic] = []
    for part, index, row in place.recipe.data.sources():
        found, wrong = _find_source(place, row, part, index)
        files[(part, index)] = found
        faults += wrong
    weights = {i: row.weight for i, row in enumerate(place.recipe.data.train) if row.weight is not None}
    return DataFacts(files=files, weights=weights), faults


def _find_source(
    place: _Place, row: SourceTable, part: str, index: int
) -> tuple[tuple[RowFacts, ...], tuple[Diagnostic, ...]]:
    span = place.source.value("data", part, index, "source")
    if not is_local(row):
        return (), () if HUB_ID.fullmatch(row.source) else (_bad_source(place, row, part, index),)
    text = row.source.removeprefix("./")
    fault = path_fault(text)
    if fault:
        hint = "put the file, or a link to it, beside the recipe"
        return (), (
            Diagnostic(
                code="FTC601",
                severity="error",
                message=f"`source` may not name this file: {fault}",
                span=span,
                hints=(hint,),
            ),
        )
    if Path(text).suffix not in EXTENSIONS:
        return (), (_bad_source(place, row, part, index),)
    role_key = (row.columns or {}).get("role", "from" if row.format == "sharegpt" else "role")
    return probe_files(place.folder, text, span, role_key=role_key)


def _bad_source(place: _Place, row: SourceTable, part: str, index: int) -> Diagnostic:
    near = did_you_mean(Path(row.source).suffix or ".", list(EXTENSIONS))
    return Diagnostic(
        code="FTC504",
        severity="error",
        message=f"`{row.source[:80]}` is neither a data file nor a hub id",
        span=place.source.value("data", part, index, "source"),
        notes=(f"files end with {', '.join(EXTENSIONS)}; a hub id is `owner/name`",),
        hints=near,
    )


def _unknown_words(place: _Place, stack: StackFacts) -> Iterator[Diagnostic]:
    train, model = place.recipe.train, place.recipe.model
    words = (
        ("FTC110", "optimizer", ("train", "optimizer"), train.optimizer, stack.optimizers),
        ("FTC111", "scheduler", ("train", "scheduler"), train.scheduler, stack.schedulers),
        ("FTC112", "attention", ("model", "attention"), model.attention, stack.attention),
    )
    for code, what, path, word, known in words:
        if word is not None and word != "auto" and word not in known:
            yield Diagnostic(
                code=code,
                severity="error",
                message=f"unknown {what} `{word[:80]}` for stack {stack.name}",
                span=place.source.value(*path),
                hints=did_you_mean(word, known),
            )
    yield from _unknown_family(place, stack)


def _unknown_family(place: _Place, stack: StackFacts) -> Iterator[Diagnostic]:
    name = place.recipe.model.chat_template
    if name is None or name == "auto" or name.endswith(".jinja") or name in stack.template_families:
        return
    yield Diagnostic(
        code="FTC117",
        severity="error",
        message=f"unknown chat template family `{name[:80]}`",
        span=place.source.value("model", "chat_template"),
        notes=("`auto`, a family, or a .jinja file beside the recipe",),
        hints=did_you_mean(name, stack.template_families),
    )
