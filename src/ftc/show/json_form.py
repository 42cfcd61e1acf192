"""The JSON object that `check`, `plan` and `compile` print with `--json`: stable, fields are only added."""

from typing import Any

from ftc.compile import Outcome
from ftc.diagnostic import Diagnostic, Report
from ftc.emit import plan_json


def report_json(name: str | None, report: Report, outcome: Outcome | None) -> dict[str, Any]:
    """Returns the object; the keys that need a target are there where there was one."""
    plan = plan_json(outcome.work) if outcome is not None and outcome.work is not None else {}
    diagnostics = [_diagnostic(d) for d in report.diagnostics]
    return {
        "name": name,
        **({"ok": not report.failed} if not plan else {}),
        **plan,
        "diagnostics": diagnostics,
    }


def _diagnostic(diagnostic: Diagnostic) -> dict[str, Any]:
    span = diagnostic.span
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "file": span.file if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "notes": list(diagnostic.notes),
        "hints": list(diagnostic.hints),
    }
