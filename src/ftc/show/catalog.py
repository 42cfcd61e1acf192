"""`ftc catalog`: the facts with their sources, one row each."""

from typing import Any, Literal, assert_never

from ftc.facts import load_catalog, load_gpus, load_stack, model_names, stack_names
from ftc.show.segments import Segment

Rows = list[dict[str, Any]]


def catalog_rows(what: Literal["models", "gpus", "stacks"]) -> Rows:
    """Returns the rows of one catalog."""
    match what:
        case "models":
            return [_model(name) for name in model_names()]
        case "gpus":
            return [_gpu(index) for index in range(len(load_gpus()))]
        case "stacks":
            return [_stack(name) for name in stack_names()]
        case _:
            assert_never(what)


def _model(name: str) -> dict[str, Any]:
    facts = load_catalog(name)
    assert facts is not None
    return {
        "id": name,
        "parameters": facts.params_total,
        "architecture": facts.architecture,
        "context": facts.max_position_embeddings,
        "chat_template": facts.chat_template,
        "sources": list(facts.sources),
    }


def _gpu(index: int) -> dict[str, Any]:
    gpu = load_gpus()[index]
    return {
        "name": gpu.name,
        "aliases": list(gpu.aliases),
        "usable_memory_gib": round(gpu.usable_memory_bytes / 2**30, 2) if gpu.usable_memory_bytes else None,
        "bf16": gpu.bf16,
        "sources": [s for s in (gpu.usable_memory_source, *gpu.sources) if s],
    }


def _stack(name: str) -> dict[str, Any]:
    stack = load_stack(name)
    assert stack is not None
    return {
        "name": name,
        "versions": dict(stack.versions),
        "chat_template_families": list(stack.template_families),
        "sources": ["extracted from the installed libraries by scripts/extract_api.py"],
    }


def render_catalog(rows: Rows) -> list[Segment]:
    """Returns one line a row, columns aligned; `--json` has the sources."""
    table = [[_cell(v) for k, v in row.items() if k != "sources"] for row in rows]
    widths = [min(48, max(len(row[i]) for row in table)) for i in range(len(table[0]))] if table else []
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
    return [("\n".join(lines) + "\n", "")]


def _cell(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{k} {v}" for k, v in value.items())
        case list():
            return ", ".join(map(str, value))
        case int() if not isinstance(value, bool) and value > 10_000_000:
            return f"{value / 1e9:.2f} B"
        case _:
            return str(value)
