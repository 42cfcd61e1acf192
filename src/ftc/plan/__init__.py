"""Memory, time and the choice of a plan: pure arithmetic over frozen values."""

from ftc.plan.candidates import Candidate
from ftc.plan.choose import Plan, choose_plan
from ftc.plan.memory import Budget, budget_memory
from ftc.plan.time import Duration, estimate_time

__all__ = ["Budget", "Candidate", "Duration", "Plan", "budget_memory", "choose_plan", "estimate_time"]
