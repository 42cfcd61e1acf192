"""Small and calm: modules of at most 350 lines, functions of at most 40."""

import ast
from pathlib import Path

import ftc

ROOT = Path(ftc.__file__).parent


def test_modules_and_functions_are_small() -> None:
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 350:
            wrong.append(f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 40:
                wrong.append(
                    f"{path.relative_to(ROOT)}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"
                )
    assert not wrong, "\n".join(wrong)
