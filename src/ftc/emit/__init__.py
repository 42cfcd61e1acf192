"""Plan -> Bundle: one module per emitted file."""

from ftc.emit.bundle import Bundle, emit_bundle
from ftc.emit.job import Job
from ftc.emit.plan_file import plan_json

__all__ = ["Bundle", "Job", "emit_bundle", "plan_json"]
