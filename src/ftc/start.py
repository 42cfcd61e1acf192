"""The console script. A compile is over in a fraction of a second, so what Python does for long runs is left out."""

import contextlib
import gc
import os
import sys


def run() -> None:
    """Runs the command line and leaves at once: no garbage collection on the way, no teardown at the end."""
    gc.disable()
    from ftc.cli import main  # noqa: PLC0415 (after gc.disable)

    try:
        main()
    except SystemExit as stop:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)
