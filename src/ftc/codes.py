"""The registry of diagnostic codes, for `ftc explain`, the docs and the tests. A code is never reused."""

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ftc.diagnostic import Severity


class Code(NamedTuple):
    """What a code means: a summary, why it matters, an example that raises it, the fix."""

    code: str
    severity: Severity
    summary: str
    why: str
    example: str
    fix: str


@cache
def load_codes() -> dict[str, Code]:
    """Returns every code, in order."""
    text = (Path(__file__).parent / "codes.toml").read_text(encoding="utf-8")
    return {
        code: Code(code=code, **{k: v.strip() for k, v in entry.items()}) for code, entry in tomllib.loads(text).items()
    }
