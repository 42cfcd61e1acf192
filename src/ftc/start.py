"""The console script. A compile is over in a fraction of a second, so what Python does for long runs is left out."""

import contextlib
import gc
import os
import sys
from types import ModuleType


def run() -> None:
    """Runs the command line and leaves at once: no garbage collection on the way, no teardown at the end."""
    gc.disable()
    _skip_plugins()
    from ftc.cli import main  # noqa: PLC0415 (after what makes it fast)

    try:
        main()
    except SystemExit as stop:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)


def _skip_plugins() -> None:
    """Gives pydantic an empty list of plugins: what would look for them takes a tenth of the start to import."""
    loader = ModuleType("pydantic.plugin._loader")
    loader.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(loader.__name__, loader)
