"""Compiles each kernel variant for a GPU that need not be there, and counts what the compiler made of it.

    PYTHONPATH=client:server python benchmarks/gpu_ahead.py [--only index] [--out docs/performance/gpu_ahead.json]
    PYTHONPATH=client:server python benchmarks/gpu_ahead_page.py      the table of docs/gpu.md, from that file

Registers a thread, bytes spilled to local memory, bytes of shared memory, instructions (both sides of every branch
counted), and loads and stores of device memory, all of them and those of 16 bytes. Kernels must have no atomics. Needs
torch, Triton (whose package has the assembler and the disassembler), numpy and protobuf; takes about two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
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
from lossd_server.tensors.array import STORAGE, Array, View

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
CLASSES = (10, 32, 64, 100, 256, 512, 1000, 2048, 4096, 8192, 16384, 50257)
DTYPES = {"bf16": pb.DATA_TYPE_BFLOAT16, "f32": pb.DATA_TYPE_FLOAT32, "f64": pb.DATA_TYPE_FLOAT64}
SPLIT_ROWS = {"sums": "split_rows_sums", "outputs": "split_rows_outputs"}
COUNTED = ("warps", "registers", "spilled_bytes", "shared_bytes", "instructions")
ACCESSES = {"loads": "LDG", "stores": "STG"}


def job(formula: Formula, classes: int, dtype: str, inner: int = 1, **options: Any) -> Job:
    """A job of two items, of ones."""
    code = DTYPES[dtype]
    shape = (2, classes, inner)
    ones = Array(np.ones(2 * classes * inner, STORAGE[code]), code, shape)
    index = formula is Formula.CROSS_ENTROPY_INDEX
    target = Array(np.zeros(2 * inner, np.int64), pb.DATA_TYPE_INT64, (2, inner)) if index else ones
    compute = np.dtype(np.float64 if dtype == "f64" else np.float32)
    options.setdefault("input_gradient", not formula.activation)
    return Job(rpc="", formula=formula, layout=Layout(*shape), compute=compute, input=ones, target=target, **options)


def variants() -> Iterator[tuple[str, KernelVariant]]:
    """By name: the variants in registers that requests meet most, and each general kernel."""
    for dtype in ("bf16", "f32"):
        for classes in CLASSES:
            index = job(Formula.CROSS_ENTROPY_INDEX, classes, dtype)
            yield from _launched(f"index {dtype} {classes}", choose_variant(index))
        for name, formula, options in (
            ("smoothed", Formula.CROSS_ENTROPY_INDEX, {"label_smoothing": 0.1}),
            ("with outputs", Formula.CROSS_ENTROPY_INDEX, {"outputs": frozenset({"lse", "entropy", "argmax"})}),
            ("soft labels", Formula.CROSS_ENTROPY_DISTRIBUTION, {}),
            ("entropy", Formula.ENTROPY_LOGITS, {}),
            ("softmax", Formula.SOFTMAX, {}),
        ):
            for classes in (100, 1000, 4096, 50257):
                one = job(formula, classes, dtype, **options)
                yield from _launched(f"{name} {dtype} {classes}", choose_variant(one))
        for name in ("BCE", "BCE_WITH_LOGITS", "KL", "SIGMOID"):
            one = job(Formula[name], 4096, dtype, input_kind=Kind.LOG_PROBABILITIES)
            yield f"{name.lower()} {dtype}", choose_variant(one)
    for dtype in ("f32", "f64"):
        for classes in (10, 1000, 50257):
            strided = job(Formula.CROSS_ENTROPY_DISTRIBUTION, classes, dtype, inner=3, weight_gradient=True)
            yield f"strided rows {dtype} {classes}", choose_variant(strided)
            yield f"divergence of rows {dtype} {classes}", choose_variant(job(Formula.KL_ROWS, classes, dtype))
        last = class_weight_gradient_variant(strided)
        assert last is not None
        yield f"class weights {dtype}", last
        weight = View(np.ones(1, STORAGE[DTYPES[dtype]]), DTYPES[dtype], (2, 4096), (0, 0))
        yield (
            f"weighted bce_with_logits {dtype}",
            choose_variant(job(Formula.BCE_WITH_LOGITS, 4096, dtype, weight=weight)),
        )


def _launched(name: str, variant: KernelVariant) -> Iterator[tuple[str, KernelVariant]]:
    """Long rows take two launches."""
    if variant.kernel != "split_rows_sums":
        yield name, variant
        return
    for what, kernel in SPLIT_ROWS.items():
        yield f"{name}, {what}", replace(variant, kernel=kernel)


def examine(variant: KernelVariant, target: int) -> tuple[dict[str, int], str]:
    """What the compiler made of a variant, counted; and its PTX."""
    constants = variant.constants
    arguments = {"words": "*i64", "out": "*i64", "first_item": "i64", "work_list": "i64"}
    aligned = {(place,): [["tt.divisibility", 16]] for place in (0, 1)}  # as torch allocates
    source = ASTSource(KERNELS[variant.kernel], arguments | dict.fromkeys(constants, "constexpr"), constants, aligned)
    compiled = triton.compile(source, GPUTarget("cuda", target, 32), variant.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = _said("cuobjdump", "-res-usage", cubin.name)
        code = _said("nvdisasm", "-c", cubin.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found is not None, usage
    instructions = len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", code, re.MULTILINE))
    spilled = int(found[2]) + int(found[3])
    numbers = (variant.warps, int(found[1]), spilled, int(compiled.metadata.shared), instructions)
    counts = dict(zip(COUNTED, numbers, strict=True))
    for what, opcode in ACCESSES.items():
        counts[what] = len(re.findall(rf"\b{opcode}\b", code))
        counts[f"wide_{what}"] = len(re.findall(rf"\b{opcode}[.A-Z0-9]*\.128\b", code))
    return counts, str(compiled.asm["ptx"])


def _said(tool: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=True).stdout


def versions() -> dict[str, str]:
    """Of what compiled."""
    assembler = re.search(r"V([\d.]+)", _said("ptxas", "--version"))
    assert assembler is not None
    return {"triton": triton.__version__, "ptxas": assembler[1]}


def write(path: Path, target: int, found: Sequence[dict[str, Any]]) -> None:
    """The figures as JSON, a line a variant."""
    lines = ",\n  ".join(json.dumps(one) for one in found)
    head = f'{{\n "target": "sm_{target}",\n "versions": {json.dumps(versions())},\n'
    path.write_text(f'{head} "variants": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="variants whose name matches this regular expression")
    parser.add_argument("--target", type=int, default=90, help="compute capability")
    parser.add_argument("--out", type=Path, help="JSON")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET=1 leaves nothing to compile")
    found: list[dict[str, Any]] = []
    for name, variant in variants():
        if re.search(options.only, name):
            counts, ptx = examine(variant, options.target)
            if re.search(r"\b(atom|red)\.", ptx):
                sys.exit(f"{name} has atomics")
            found.append({"name": name, "kernel": variant.kernel} | counts)
            print(f"{name:34}", ", ".join(f"{what} {count}" for what, count in counts.items()), flush=True)
    if options.out:
        write(options.out, options.target, found)


if __name__ == "__main__":
    main()
