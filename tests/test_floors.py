"""The house: a module imports only from floors below its own, or from its own package."""

import ast
from pathlib import Path

import ftc

ROOT = Path(ftc.__file__).parent

FLOORS = {
    "ftc": 0,
    "ftc.diagnostic": 0,
    "ftc.source": 0,
    "ftc.paths": 0,
    "ftc.codes": 0,
    "ftc.recipe": 1,
    "ftc.site": 1,
    "ftc.facts": 1,
    "ftc.probe": 2,
    "ftc.resolve": 2,
    "ftc.settings": 2,
    "ftc.legal": 2,
    "ftc.rules": 3,
    "ftc.plan": 3,
    "ftc.emit": 4,
    "ftc.disk": 5,
    "ftc.compile": 5,
    "ftc.show": 6,
    "ftc.cli": 7,
    "ftc.start": 8,
}
# On one floor, these stand in the order given: a later one may import an earlier one.
STAIRS = (
    ("ftc.diagnostic", "ftc.source"),
    ("ftc.diagnostic", "ftc.codes"),
    ("ftc.probe", "ftc.resolve"),
    ("ftc.settings", "ftc.legal"),
)


def room_of(module: str) -> str:
    """Returns the package or module that has a floor of its own."""
    return ".".join(module.split(".")[:2])


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    found |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    return {room_of(name) for name in found if name.split(".")[0] == "ftc"}


def test_every_module_imports_only_from_floors_below() -> None:
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        room = room_of(".".join(parts if parts[-1] != "__init__" else parts[:-1]))
        for other in imports_of(path) - {room}:
            same_floor = FLOORS[other] == FLOORS[room] and (other, room) in STAIRS
            if FLOORS[other] >= FLOORS[room] and not same_floor and other != "ftc":
                wrong.append(f"{path.relative_to(ROOT)} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})")
    assert not wrong, "\n".join(wrong)


def test_compile_time_code_imports_few_libraries() -> None:
    allowed = {"pydantic", "pydantic_core", "cyclopts", "rich", "jinja2"}
    import sys

    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        names |= {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        strange = names - allowed - {"ftc"} - set(sys.stdlib_module_names)
        assert not strange, f"{path.name} imports {strange}"
