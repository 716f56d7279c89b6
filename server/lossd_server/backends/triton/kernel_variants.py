"""Kernel variants: a kernel and the constants it is compiled with, and how one is launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton.kernels.class_weight_gradient import class_weight_gradient_kernel
from lossd_server.backends.triton.kernels.distributions import distributions_kernel
from lossd_server.backends.triton.kernels.elementwise_general import elementwise_general_kernel
from lossd_server.backends.triton.kernels.elementwise_in_registers import elementwise_in_registers_kernel
from lossd_server.backends.triton.kernels.softmax_general import softmax_general_kernel
from lossd_server.backends.triton.kernels.softmax_in_registers import softmax_in_registers_kernel
from lossd_server.backends.triton.kernels.softmax_split_rows import split_rows_outputs_kernel, split_rows_sums_kernel

KERNELS: dict[str, Any] = {
    "softmax_in_registers": softmax_in_registers_kernel,
    "split_rows_sums": split_rows_sums_kernel,
    "split_rows_outputs": split_rows_outputs_kernel,
    "softmax_general": softmax_general_kernel,
    "distributions": distributions_kernel,
    "elementwise_in_registers": elementwise_in_registers_kernel,
    "elementwise_general": elementwise_general_kernel,
    "class_weight_gradient": class_weight_gradient_kernel,
}
SOFTMAX_TILES = frozenset({"softmax_in_registers", "split_rows_sums", "split_rows_outputs"})
TYPES: dict[int, Any] = {
    pb.DATA_TYPE_FLOAT16: tl.float16,
    pb.DATA_TYPE_BFLOAT16: tl.bfloat16,
    pb.DATA_TYPE_FLOAT32: tl.float32,
}


@dataclass(frozen=True, slots=True)
class KernelVariant:
    """A kernel as it is compiled. The second group of fields is of kernels whose tile is in registers."""

    kernel: str  # of KERNELS
    compute: str  # "float32" or "float64"
    tile: int  # rows of a work item
    block: int  # classes of a step or of a work item; elements of a run
    warps: int

    formula: int = 0
    soft_labels: bool = False  # every class has a weight in the loss, not the row's own alone
    outputs: bool = False  # by-products are wanted
    dtype: int = 0  # of the input
    target_dtype: int = 0  # of the target's distribution
    value_dtype: int = 0  # of losses kept, or of an activation
    vector: int = 1  # entries of an access
    padded: bool = False  # the last vector of a row holds entries that do not exist
    lanes: int = 0  # of a row
    registers: int = 0  # the most that a thread may take; 0: no limit

    @property
    def in_registers(self) -> bool:
        """Whether the tile stays in registers from the read to the gradient."""
        return self.kernel in SOFTMAX_TILES or self.kernel == "elementwise_in_registers"

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's options."""
        limit = {"maxnreg": self.registers} if self.registers else {}
        return {"num_warps": self.warps} | limit

    @property
    def constants(self) -> dict[str, Any]:
        """The kernel's constexpr arguments."""
        if not self.in_registers:
            compute = {"COMPUTE": tl.float64 if self.compute == "float64" else tl.float32}
            if self.kernel == "elementwise_general":
                return compute | {"RUN": self.block}
            if self.kernel == "class_weight_gradient":
                return compute | {"BLOCK": self.block}
            return compute | {"TILE": self.tile, "BLOCK": self.block}
        constants = {
            "FORMULA": self.formula,
            "DTYPE": TYPES[self.dtype],
            "TARGET_DTYPE": TYPES[self.target_dtype],
            "VECTOR": self.vector,
        }
        if self.kernel == "elementwise_in_registers":
            return constants | {"VALUE_DTYPE": TYPES[self.value_dtype], "RUN": self.block}
        constants |= {
            "SOFT_LABELS": self.soft_labels,
            "OUTPUTS": self.outputs,
            "PADDED": self.padded,
            "BLOCK": self.block,
        }
        if self.kernel == "softmax_in_registers":
            constants |= {"TILE": self.tile, "STEP": min(self.block, self.lanes * self.vector)}
        return constants


def launch_variant(
    variant: KernelVariant, words: torch.Tensor, out: torch.Tensor, first_item: int, count: int, work_list: int
) -> None:
    """Launches `count` work items from `first_item` on; `work_list`: the word at which the work list begins."""
    kernel = KERNELS[variant.kernel]
    kernel[(count,)](words, out, first_item, work_list, **variant.constants, **variant.options)
