"""One value that holds all that is decided; every emitted file is a view of it."""

from collections.abc import Mapping
from typing import NamedTuple

from ftc.facts import Facts, Target
from ftc.plan import Plan
from ftc.recipe import Recipe
from ftc.settings import Choice, Settings
from ftc.site import Site
from ftc.source import Source

CARRIED_BYTES = 2**20


class Job(NamedTuple):
    """The recipe, the facts, the settled values and the plan. `with_data` carries files of any size."""

    recipe: Recipe
    source: Source
    facts: Facts
    settings: Settings
    plan: Plan
    site: Site
    with_data: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        assert self.facts.target is not None
        return self.facts.target

    @property
    def on_cpu(self) -> bool:
        return self.target.gpu.is_cpu

    @property
    def choices(self) -> Mapping[str, Choice]:
        """Every decided value by `table.key`: the recipe's, the defaults', the planner's."""
        planned = {f"plan.{key}": choice for key, choice in self.plan.choices.items()}
        return {**self.settings.choices, **planned}

    def carries(self, size_bytes: int) -> bool:
        """Returns whether a file of that size travels in the bundle."""
        return self.with_data or size_bytes <= CARRIED_BYTES

    @property
    def carries_model(self) -> bool:
        """Returns whether the local model travels in the bundle: all of its files, or none."""
        local = self.facts.local_model
        return local is not None and all(self.carries(size) for _, size in local.files.values())
