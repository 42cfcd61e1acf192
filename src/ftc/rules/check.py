"""All rules, asked together."""

from collections.abc import Callable, Iterator

from ftc.diagnostic import Diagnostic
from ftc.rules import adapter, advice, data, hardware, parallel, passthrough, security, train
from ftc.rules.context import Context

Rule = Callable[[Context], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (
    *security.RULES,
    *hardware.RULES,
    *adapter.RULES,
    *parallel.RULES,
    *train.RULES,
    *data.RULES,
    *passthrough.RULES,
    *advice.RULES,
)


def check_recipe(context: Context) -> tuple[Diagnostic, ...]:
    """Returns what every rule finds; no rule hides another."""
    return tuple(diagnostic for rule in RULES for diagnostic in rule(context))
