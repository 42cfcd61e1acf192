"""Which relative paths a recipe may name: plain characters, inside the recipe's folder."""

import re
from pathlib import PurePosixPath

_PART = re.compile(r"[\w.+=@,()\[\]*?!][\w .+=@,()\[\]*?!-]*")
MAX_PATH = 512


def path_fault(text: str) -> str | None:
    """Returns why `text` may not be used as a path below the recipe's folder, or None where it may."""
    if not text or len(text) > MAX_PATH:
        return f"a path has 1 to {MAX_PATH} characters"
    if text.startswith(("/", "~")) or re.match(r"[A-Za-z]:", text) or "\\" in text:
        return "it must be relative to the recipe's folder, with `/` between parts"
    parts = PurePosixPath(text).parts
    if ".." in parts:
        return "it leaves the recipe's folder"
    for part in parts:
        if not _PART.fullmatch(part):
            return "a part of it has a character other than letters, digits, space and . _ - + = @ , ( )"
    return None
