"""merge.py: the adapter folded into its base, where the recipe asks for it."""

from ftc.emit.environment import render
from ftc.emit.train import TrainView


def emit_merge(view: TrainView) -> str:
    """Returns merge.py."""
    return render("merge.py.jinja", view)
