"""What people and programs read: diagnostics and plans as text or JSON. Plain text says all that colour says."""

from ftc.show.diagnostics import render_explanation, render_report
from ftc.show.json_form import report_json
from ftc.show.plan import render_plan

__all__ = ["render_explanation", "render_plan", "render_report", "report_json"]
