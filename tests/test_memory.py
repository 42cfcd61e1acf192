"""The closed form against an oracle that ran real library code at real model sizes, where its table is at hand."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT.parent / "shared" / "data" / "memory_oracle.jsonl"


@pytest.mark.skipif(not TABLE.exists(), reason="no oracle table here")
def test_the_allocated_peak_is_near_the_oracle() -> None:
    compare = runpy.run_path(str(ROOT / "benchmarks" / "compare_memory.py"))
    rows = [json.loads(line) for line in TABLE.read_text().splitlines()]
    covered = [row for row in rows if compare["covered"](row)]
    errors = {row["tag"]: abs(compare["predict"](row) / 2**30 / row["peak_gib"] - 1) for row in covered}
    assert len(errors) >= 20
    assert sorted(errors.values())[len(errors) // 2] < 0.01, errors
    assert max(errors.values()) < 0.05, errors
