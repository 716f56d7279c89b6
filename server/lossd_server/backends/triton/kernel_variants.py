"""A compiled variant of a kernel, and how it is launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton.kernels import softmax_split_rows
from lossd_server.backends.triton.kernels.class_weight_gradient import class_weight_gradient_kernel
from lossd_server.backends.triton.kernels.distributions import distributions_kernel
from lossd_server.backends.triton.kernels.elementwise_general import elementwise_general_kernel
from lossd_server.backends.triton.kernels.elementwise_in_registers import elementwise_in_registers_kernel
from lossd_server.backends.triton.kernels.softmax_general import softmax_general_kernel
from lossd_server.backends.triton.kernels.softmax_in_registers import softmax_in_registers_kernel

TYPES: dict[int, Any] = {
    pb.DATA_TYPE_FLOAT16: tl.float16,
    pb.DATA_TYPE_BFLOAT16: tl.bfloat16,
    pb.DATA_TYPE_FLOAT32: tl.float32,
}


@dataclass(frozen=True, slots=True)
class KernelVariant:
    """A compiled variant of a kernel. tile: rows of a work item; block: classes of a step, or elements of a run.

    Of tiles in registers: formula; whether every class has a weight in the loss (soft_labels); whether by-products are
    wanted; dtypes of the input, of the target's distribution, of the values; entries of an access (vector); whether a
    row's last one is padded; lanes of a row; phase of split rows; the most registers a thread may take (0: no limit).
    """

    kernel: str  # of KERNELS
    compute: str  # "float32" or "float64"
    tile: int
    block: int
    warps: int
    formula: int = 0
    soft_labels: bool = False
    outputs: bool = False
    dtype: int = 0
    target_dtype: int = 0
    value_dtype: int = 0
    vector: int = 1
    padded: bool = False
    lanes: int = 0
    registers: int = 0
    phase: int = 0

    @property
    def held(self) -> bool:
        """Whether the tile is held in registers."""
        return self.kernel in ("softmax_in_registers", "softmax_split_rows", "elementwise_in_registers")

    @property
    def run(self) -> int:
        """Entries of a row that one instruction takes."""
        return min(self.block, self.lanes * self.vector)

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's options."""
        limit = {"maxnreg": self.registers} if self.registers else {}
        return {"num_warps": self.warps} | limit

    @property
    def constants(self) -> dict[str, Any]:
        """The kernel's constexpr arguments."""
        if self.kernel == "elementwise_in_registers":
            return {
                "FORMULA": self.formula,
                "DTYPE": TYPES[self.dtype],
                "TARGET_DTYPE": TYPES[self.target_dtype],
                "VALUE_DTYPE": TYPES[self.value_dtype],
                "VECTOR": self.vector,
                "RUN": self.block,
            }
        if self.held:
            constants: dict[str, Any] = {
                "FORMULA": self.formula,
                "SOFT_LABELS": self.soft_labels,
                "OUTPUTS": self.outputs,
                "DTYPE": TYPES[self.dtype],
                "TARGET_DTYPE": TYPES[self.target_dtype],
                "VECTOR": self.vector,
                "PADDED": self.padded,
                "BLOCK": self.block,
            }
            return constants | (
                {"PHASE": self.phase} if self.kernel == "softmax_split_rows" else {"TILE": self.tile, "STEP": self.run}
            )
        constants = {"COMPUTE": tl.float64 if self.compute == "float64" else tl.float32}
        if self.kernel == "elementwise_general":
            return constants | {"RUN": self.block}
        if self.kernel == "class_weight_gradient":
            return constants | {"BLOCK": self.block}
        return constants | {"TILE": self.tile, "BLOCK": self.block}


KERNELS: dict[str, Any] = {
    "softmax_in_registers": softmax_in_registers_kernel,
    "softmax_split_rows": softmax_split_rows.softmax_split_rows_kernel,
    "softmax_general": softmax_general_kernel,
    "distributions": distributions_kernel,
    "elementwise_in_registers": elementwise_in_registers_kernel,
    "elementwise_general": elementwise_general_kernel,
    "class_weight_gradient": class_weight_gradient_kernel,
}


def launch_variant(
    variant: KernelVariant, words: torch.Tensor, out: torch.Tensor, first: int, count: int, work: int
) -> None:
    """Launches `count` work items from number `first` on; `work` is the word at which the work list begins."""
    kernel = KERNELS[variant.kernel]
    kernel[(count,)](words, out, first, work, **variant.constants, **variant.options)
