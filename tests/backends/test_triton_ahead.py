"""The kernels compile for a real GPU, without one: machine code for sm_90, in a process without interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# One variant of each kernel, and of each way in which rows in registers are computed.
ONLY = (
    r"^(index bf16 (10|1000|50257.*)|index f32 (100|4096)|distribution f32 4096|bce_with_logits f32|class weights f32)$"
)


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """Tiles in registers are read and written 16 bytes at a time, spill nothing, and add without atomics."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "benchmarks" / "gpu_ahead.py", "--only", ONLY],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines())
    rows = {line[0]: dict(zip(header[1:], map(int, line[1:]), strict=True)) for line in lines}
    assert len(rows) == 9
    assert {name: row["spilled B"] for name, row in rows.items()} == dict.fromkeys(rows, 0)
    for name, row in rows.items():
        # Rows of 10 entries of 16 bits are 20 bytes: accesses of 4.
        wide = name not in ("index bf16 10", "class weights f32")
        assert (row["LDG.128"] > 0) == wide, name
        assert (row["STG.128"] > 0) == (wide and "sums" not in name), name
