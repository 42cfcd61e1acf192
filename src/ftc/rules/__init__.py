"""Cross-field checks: one function per code, asked all together."""

from ftc.rules.check import check_recipe
from ftc.rules.context import Context
from ftc.rules.security import check_numbers, check_text

__all__ = ["Context", "check_numbers", "check_recipe", "check_text"]
