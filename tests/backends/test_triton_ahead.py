"""The kernels compile for a real GPU, without one: machine code for sm_90, in a process without interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# One variant of each kernel but the slowest to compile, and of each way in which rows in registers are computed.
ONLY = (
    r"^(index bf16 (10|1000|50257.*)|index f32 (100|4096)|soft labels f32 4096|bce_with_logits f32|class weights f32)$"
)


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Tiles in registers are read and written 16 bytes at a time, spill nothing, and add without atomics. By the same
    compiler, the figures of docs/performance/gpu_ahead.json are found again.
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "benchmarks" / "gpu_ahead.py", "--only", ONLY, "--out", out],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in found["variants"]}
    assert len(rows) == 9
    assert {name: row["spilled_bytes"] for name, row in rows.items()} == dict.fromkeys(rows, 0)
    for name, row in rows.items():
        # Rows of 10 entries of 16 bits are 20 bytes: accesses of 4.
        wide = name not in ("index bf16 10", "class weights f32")
        assert (row["wide_loads"] > 0) == wide, name
        assert (row["wide_stores"] > 0) == (wide and "sums" not in name), name
    known = json.loads((ROOT / "docs/performance/gpu_ahead.json").read_text(encoding="utf-8"))
    if known["versions"] == found["versions"]:
        assert [row for row in known["variants"] if row["name"] in rows] == found["variants"]
