"""Class indices as targets, and class weights."""

from __future__ import annotations

from math import prod

from lossd.v1 import loss_pb2 as pb
from lossd_server.jobs.job import Layout
from lossd_server.losses.shapes import mismatch, require
from lossd_server.tensors.array import Array

NO_TARGET_GRADIENT: dict[int, str] = {pb.GRADIENT_TARGET: "class indices have none"}


def indices(
    target: Array, input_shape: tuple[int, ...], rows: tuple[int, ...], one_hot: str = "pass the class indices"
) -> Array:
    """The target, if it has one class index a row. rows: their shape. The target of a 1-D input may be () or (1).

    one_hot: what whoever has one-hot targets is told to do.
    """
    if target.shape != rows and (len(input_shape) != 1 or target.shape != (1,)):
        because = f"one class index for each row of the input of shape {list(input_shape)}"
        if target.shape == input_shape:
            because = f"{because}; for one-hot targets {one_hot}"
        raise mismatch(target.shape, rows, "target", because + classes_last(target.shape, input_shape))
    return target


def classes_last(target_shape: tuple[int, ...], input_shape: tuple[int, ...]) -> str:
    """The hint for an input whose classes seem to be its last dimension, as in (batch, tokens, classes); else ""."""
    if len(input_shape) < 3 or target_shape != input_shape[:-1]:
        return ""
    *rows, classes = input_shape
    moved = [rows[0], classes, *rows[1:]]
    return (
        f", whose classes are dimension 1; where they are its last one, transpose the input to {moved}, or reshape it "
        f"to {[prod(rows), classes]} and the target to {[prod(rows)]}"
    )


def weights(weight: Array | None, layout: Layout) -> Array | None:
    """The weight, if it has one entry a class."""
    if weight is not None:
        require(weight.shape, (layout.classes,), "weight", f"one weight for each of {layout.classes} classes")
    return weight
