"""What the compiler makes of each kernel variant for a GPU that need not be there: a Markdown table.

    PYTHONPATH=client:server python benchmarks/gpu_ahead.py [--only index] [--target 90]

Registers, spilled bytes (local memory), shared memory, instructions, and of the machine code's loads and stores those
that take 16 bytes. Needs torch, Triton (whose package has the assembler and the disassembler), numpy and protobuf.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton.kernel_variants import KERNELS, KernelVariant
from lossd_server.backends.triton.variant_choice import choose_variant, class_weight_gradient_variant
from lossd_server.jobs.job import Formula, Job, Kind, Layout
from lossd_server.tensors.array import STORAGE, Array

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
CLASSES = (10, 32, 64, 100, 256, 512, 1000, 2048, 4096, 8192, 16384, 50257)
DTYPES = {"bf16": pb.DATA_TYPE_BFLOAT16, "f32": pb.DATA_TYPE_FLOAT32}
SPLIT_ROWS = {"sums": "split_rows_sums", "outputs": "split_rows_outputs"}
HEADER = ("variant", "warps", "registers", "spilled B", "shared B", "instructions", "LDG.128", "LDG", "STG.128", "STG")


def job(formula: Formula, classes: int, dtype: int, inner: int = 1, **options: Any) -> Job:
    """A job of two items, of ones."""
    shape = (2, classes, inner)
    ones = Array(np.ones(2 * classes * inner, STORAGE[dtype]), dtype, shape)
    index = formula in (Formula.CROSS_ENTROPY_INDEX, Formula.NLL)
    target = Array(np.zeros(2 * inner, np.int64), pb.DATA_TYPE_INT64, (2, inner)) if index else ones
    compute = np.dtype(np.float64 if dtype == pb.DATA_TYPE_FLOAT64 else np.float32)
    options.setdefault("input_gradient", not formula.activation)
    return Job(rpc="", formula=formula, layout=Layout(*shape), compute=compute, input=ones, target=target, **options)


def variants() -> Iterator[tuple[str, KernelVariant]]:
    """Those that requests meet most, by name."""
    for short, dtype in DTYPES.items():
        for classes in CLASSES:
            yield from _phases(
                f"index {short} {classes}", choose_variant(job(Formula.CROSS_ENTROPY_INDEX, classes, dtype))
            )
        for name, formula, options in (
            ("smoothed", Formula.CROSS_ENTROPY_INDEX, {"label_smoothing": 0.1}),
            ("by-products", Formula.CROSS_ENTROPY_INDEX, {"outputs": frozenset({"lse", "entropy", "argmax"})}),
            ("distribution", Formula.CROSS_ENTROPY_DISTRIBUTION, {}),
            ("entropy", Formula.ENTROPY_LOGITS, {}),
            ("softmax", Formula.SOFTMAX, {}),
        ):
            for classes in (100, 1000, 4096, 50257):
                yield from _phases(f"{name} {short} {classes}", choose_variant(job(formula, classes, dtype, **options)))
        for name in ("BCE", "BCE_WITH_LOGITS", "KL", "SIGMOID"):
            yield (
                f"{name.lower()} {short}",
                choose_variant(job(Formula[name], 4096, dtype, input_kind=Kind.LOG_PROBABILITIES)),
            )
    for dtype in (pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64):
        short = "f64" if dtype == pb.DATA_TYPE_FLOAT64 else "f32"
        for classes in (10, 1000, 50257):
            strided = job(Formula.CROSS_ENTROPY_DISTRIBUTION, classes, dtype, inner=3, weight_gradient=True)
            yield f"strided rows {short} {classes}", choose_variant(strided)
            yield f"kinds {short} {classes}", choose_variant(job(Formula.KL_ROWS, classes, dtype))
        last = class_weight_gradient_variant(strided)
        assert last is not None
        yield f"class weights {short}", last


def _phases(name: str, variant: KernelVariant) -> Iterator[tuple[str, KernelVariant]]:
    if variant.kernel != "split_rows_sums":
        yield name, variant
        return
    for phase, kernel in SPLIT_ROWS.items():
        yield f"{name}, {phase}", replace(variant, kernel=kernel)


def examined(variant: KernelVariant, target: int) -> tuple[dict[str, int], str]:
    """The table's numbers, and the PTX."""
    constants = variant.constants
    signature = {"words": "*i64", "out": "*i64", "first_item": "i64", "work_list": "i64"} | dict.fromkeys(
        constants, "constexpr"
    )
    aligned = {(place,): [["tt.divisibility", 16]] for place in (0, 1)}  # as torch allocates
    source = ASTSource(KERNELS[variant.kernel], signature, constants, aligned)
    compiled = triton.compile(source, GPUTarget("cuda", target, 32), variant.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = _said("cuobjdump", "-res-usage", cubin.name)
        code = _said("nvdisasm", "-c", cubin.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found is not None, usage
    numbers = {
        "warps": variant.warps,
        "registers": int(found[1]),
        "spilled B": int(found[2]) + int(found[3]),
        "shared B": int(compiled.metadata.shared),
        "instructions": len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", code, re.MULTILINE)),
    }
    for opcode in ("LDG", "STG"):
        numbers[f"{opcode}.128"] = len(re.findall(rf"\b{opcode}[.A-Z0-9]*\.128\b", code))
        numbers[opcode] = len(re.findall(rf"\b{opcode}\b", code))
    return numbers, str(compiled.asm["ptx"])


def _said(tool: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="variants whose name matches this regular expression")
    parser.add_argument("--target", type=int, default=90, help="compute capability")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET=1 leaves nothing to compile")
    print("|", " | ".join(HEADER), "|")
    print("|---|" + "--:|" * (len(HEADER) - 1))
    for name, variant in variants():
        if re.search(options.only, name):
            numbers, ptx = examined(variant, options.target)
            if re.search(r"\b(atom|red)\.", ptx):
                sys.exit(f"{name} has atomics")
            print("|", name, "|", " | ".join(str(numbers[column]) for column in HEADER[1:]), "|", flush=True)


if __name__ == "__main__":
    main()
