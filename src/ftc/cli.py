"""The commands. The only place that prints or exits."""

import json
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TextIO

from cyclopts import App, CycloptsError, Parameter

from ftc import __version__
from ftc.compile import Outcome, Request, build_bundle, run_pipeline
from ftc.diagnostic import Report, make_report
from ftc.disk import compare_bundle, write_bundle
from ftc.show import render_explanation, render_plan, render_report, report_json
from ftc.show.segments import Segment, coloured, plain

app = App(
    name="ftc",
    help="Compile a fine-tuning recipe into a bundle that trains without ftc.",
    version=__version__,
)

Gpus = Annotated[str | None, Parameter(name="--gpus", help="hardware: 8xA100, 2x8xH100, 1xRTX4090, 2xCPU")]
Overrides = Annotated[
    tuple[str, ...], Parameter(name="--set", help="table.key=value, over what the recipe says", negative="")
]
SiteFile = Annotated[Path | None, Parameter(name="--site", help="TOML file of the place: SLURM, paths, node memory")]
Json = Annotated[bool, Parameter(name="--json", help="print one JSON object", negative="")]
Locked = Annotated[bool, Parameter(name="--locked", help="refuse unpinned revisions", negative="")]

OK, AT_FAULT, WRONG_USAGE, BUG = 0, 1, 2, 70


@app.command
def compile(  # noqa: PLR0913
    recipe: Path,
    *,
    gpus: Gpus = None,
    site: SiteFile = None,
    output: Annotated[Path | None, Parameter(name=["-o", "--output"], help="the bundle's folder")] = None,
    overrides: Overrides = (),
    locked: Locked = False,
    check: Annotated[
        bool, Parameter(name="--check", help="write nothing; exit 1 where the bundle differs", negative="")
    ] = False,
    force: Annotated[
        bool, Parameter(name="--force", help="overwrite a bundle that was edited by hand", negative="")
    ] = False,
    with_data: Annotated[
        bool, Parameter(name="--with-data", help="carry data of any size in the bundle", negative="")
    ] = False,
    as_json: Json = False,
) -> int:
    """Compile a recipe into a bundle."""
    if gpus is None:
        return _usage("compile needs a target: add for example `--gpus 8xA100` (`ftc plan RECIPE` helps to choose)")
    request = Request(recipe=recipe, gpus=gpus, site=site, overrides=overrides, locked=locked, with_data=with_data)
    outcome = run_pipeline(request)
    folder: Path | None = None
    if outcome.work is not None and not outcome.report.failed:
        folder = output or Path("out") / outcome.work.settings.name
        bundle = build_bundle(outcome.work)
        faults = compare_bundle(bundle, folder) if check else write_bundle(bundle, folder, recipe.parent, force=force)
        outcome = outcome._replace(report=make_report((*outcome.report.diagnostics, *faults)))
    if as_json:
        return _finish_json([outcome])
    _say(render_report(outcome.report), sys.stderr)
    if not outcome.report.failed:
        print(f"{folder} is up to date" if check else folder)
    return _exit_code(outcome.report)


@app.command
def check(
    recipes: Annotated[tuple[Path, ...], Parameter(negative="")],
    /,
    *,
    gpus: Gpus = None,
    overrides: Overrides = (),
    locked: Locked = False,
    as_json: Json = False,
) -> int:
    """Check recipes; no target is needed."""
    outcomes = [run_pipeline(Request(recipe=r, gpus=gpus, overrides=overrides, locked=locked)) for r in recipes]
    if as_json:
        return _finish_json(outcomes)
    report = _merge(outcomes)
    _say(render_report(report), sys.stderr)
    if not report.failed:
        print(f"{len(recipes)} recipe{'s' if len(recipes) > 1 else ''} checked")
    return _exit_code(report)


@app.command
def plan(
    recipe: Path,
    *,
    gpus: Gpus = None,
    site: SiteFile = None,
    overrides: Overrides = (),
    as_json: Json = False,
) -> int:
    """Show the memory budget and the chosen plan; without --gpus, which hardware would do."""
    if gpus is None:
        return _plan_without_target(recipe, overrides, as_json=as_json)
    outcome = run_pipeline(Request(recipe=recipe, gpus=gpus, site=site, overrides=overrides))
    if as_json:
        return _finish_json([outcome])
    if outcome.work is not None:
        _say(render_plan(outcome.work), sys.stdout)
    _say(render_report(outcome.report), sys.stderr)
    return _exit_code(outcome.report)


@app.command
def explain(code: str) -> int:
    """Explain a diagnostic: what it means, why, an example, the fix."""
    from ftc.codes import load_codes  # noqa: PLC0415
    from ftc.diagnostic import did_you_mean  # noqa: PLC0415

    text = render_explanation(code)
    if text is None:
        hints = did_you_mean(code, list(load_codes()), limit=0)
        return _usage(f"no diagnostic `{code}`" + (f"; {hints[0]}" if hints else ""))
    _say(text, sys.stdout)
    return OK


@app.command
def schema() -> int:
    """Print the JSON Schema of the recipe, for editors."""
    from ftc.recipe import Recipe  # noqa: PLC0415

    print(json.dumps(Recipe.model_json_schema(), indent=2))
    return OK


@app.command
def catalog(what: Literal["models", "gpus", "stacks"], *, as_json: Json = False) -> int:
    """List the facts that ftc knows, with their sources."""
    from ftc.show.catalog import catalog_rows, render_catalog  # noqa: PLC0415

    rows = catalog_rows(what)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _say(render_catalog(rows), sys.stdout)
    return OK


def _plan_without_target(recipe: Path, overrides: tuple[str, ...], *, as_json: bool) -> int:
    from ftc.show.hardware import hardware_rows, render_hardware  # noqa: PLC0415

    outcome = run_pipeline(Request(recipe=recipe, overrides=overrides))
    if outcome.report.failed:
        return _finish_json([outcome]) if as_json else _fail(outcome.report)
    rows = hardware_rows(recipe, overrides)
    if as_json:
        print(json.dumps({**report_json(outcome.name, outcome.report, outcome), "hardware": rows}, indent=2))
    else:
        _say(render_hardware(outcome.name or "", rows), sys.stdout)
    return OK


def _fail(report: Report) -> int:
    _say(render_report(report), sys.stderr)
    return _exit_code(report)


def _merge(outcomes: Iterable[Outcome]) -> Report:
    return make_report(d for outcome in outcomes for d in outcome.report.diagnostics)


def _finish_json(outcomes: Sequence[Outcome]) -> int:
    objects = [report_json(o.name, o.report, o) for o in outcomes]
    print(json.dumps(objects[0] if len(objects) == 1 else objects, indent=2))
    return _exit_code(_merge(outcomes))


def _exit_code(report: Report) -> int:
    return AT_FAULT if report.failed else OK


def _usage(message: str) -> int:
    print(f"ftc: {message}", file=sys.stderr)
    return WRONG_USAGE


def _say(segments: list[Segment], file: TextIO) -> None:
    """Prints with colour to a terminal, plain elsewhere."""
    if not file.isatty():
        file.write(plain(segments))
        return
    from rich.console import Console  # noqa: PLC0415 (start-up: only a terminal needs rich)

    Console(file=file, highlight=False, soft_wrap=True).print(coloured(segments), end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: exit 0 fine, 1 the recipe is at fault, 2 wrong usage, 70 a bug in ftc."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"ftc: {error}".rstrip(), file=sys.stderr)
        sys.exit(WRONG_USAGE)
    except BrokenPipeError:
        sys.exit(OK)
    except Exception:
        traceback.print_exc()
        print("ftc: this is a bug in ftc; please report it with the lines above", file=sys.stderr)
        sys.exit(BUG)
    sys.exit(code if isinstance(code, int) else OK)
