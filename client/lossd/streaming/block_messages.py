"""Block messages of one evaluation: made as they are asked for; its answer, put together from blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from lossd import results, wire
from lossd.errors import InternalError
from lossd.fast_path.request_template import OPEN_FIELDS
from lossd.request import tensors
from lossd.request.build import Call
from lossd.request.tensors import Operand
from lossd.results import Result
from lossd.routing.block_plan import BlockPlan
from lossd.routing.mean_denominator import MeanDenominator
from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb

Part = bytes | memoryview

_BLOCK: Mapping[str, int] = {field.name: field.number for field in service_pb2.Block.DESCRIPTOR.fields}
OPEN, BLOCK, END, OPENS = (
    service_pb2.StreamRequest.DESCRIPTOR.fields_by_name[n].number for n in ("open", "block", "end", "opens")
)


@lru_cache(maxsize=4096)
def head(number: int, size: int) -> bytes:
    """The tag and length of a field of `size` bytes."""
    return wire.varint(number << 3 | 2) + wire.varint(size)


def open_head(rpc: str, size: int) -> bytes:
    """What stands before a request of `size` bytes in an Open."""
    return head(OPEN_FIELDS[rpc], size)


class Sending:
    """The messages of an evaluation that is cut into blocks. Arrays are read block by block.

    denominator: of its mean, where the server cannot know it. items: those that are in the messages made so far.
    """

    def __init__(
        self, call: Call, cut: BlockPlan, evaluation_id: int, denominator: MeanDenominator | None = None
    ) -> None:
        self._call = call
        self.cut = cut
        self._identity = b"\x08" + wire.varint(evaluation_id)
        self.denominator = denominator
        self.items = 0

    def __iter__(self) -> Iterator[bytes]:
        yield self._message(OPEN, self._open())
        cut = self.cut
        for start in range(0, cut.items, cut.step):
            stop = min(start + cut.step, cut.items)
            message = self._message(BLOCK, self._block(start, stop))
            self.items = stop
            yield message
        yield self._message(END, [])

    def _message(self, kind: int, parts: list[Part]) -> bytes:
        size = len(self._identity) + sum(map(len, parts))
        return b"".join([head(kind, size), self._identity, *parts])

    def _open(self) -> list[Part]:
        asked, parts = self._call.asked, list[Part]()
        operands = dict(self._call.operands)
        fields = asked.encoded
        if self.denominator is not None:
            fields += asked.request(normalizer=self.denominator.normalizer).SerializeToString()
            if not self.denominator.is_plain:
                operands["grad_output"] = self._upstream(self.denominator, operands)
        for name, operand in operands.items():
            number = asked.request.DESCRIPTOR.fields_by_name[name].number
            if name in self.cut.streamed:
                tensor = pb.Tensor(dtype=operand.dtype, shape=operand.shape, streamed=pb.Streamed())
                body = tensor.SerializeToString()
                parts += [head(number, len(body)), body]
            else:
                parts += [wire.tensor_header(number, operand.dtype, operand.shape), operand.data()]
        parts.append(fields)
        return [open_head(asked.rpc, sum(map(len, parts))), *parts]

    @staticmethod
    def _upstream(denominator: MeanDenominator, operands: Mapping[str, Operand]) -> Operand:
        given = operands.get("grad_output")
        one = 1.0 if given is None else float(tensors.as_float64(given.values, given.dtype).reshape(()))
        # Of the width that is given, since a float64 among the tensors would make the loss float64.
        dtype = tensors.FLOAT64 if given is not None and given.dtype == tensors.FLOAT64 else tensors.FLOAT32
        return Operand(dtype, np.asarray(denominator.upstream(one), tensors.numpy_dtype(dtype)))

    def _block(self, start: int, stop: int) -> list[Part]:
        parts: list[Part] = [b"\x10" + wire.varint(start)] if start else []
        for name in self.cut.streamed:
            operand = self._call.operands[name]
            parts.append(wire.tensor_header(_BLOCK[name], operand.dtype, (stop - start, *operand.shape[1:])))
            parts.append(operand.items(start, stop))
        return parts


class Assembly:
    """The answer to `call` as its blocks come: each tensor's elements are copied once, to where they shall lie."""

    def __init__(self, call: Call, cut: BlockPlan) -> None:
        self._call = call
        self._cut = cut
        self._whole: dict[str, Any] = {}
        self._filled: dict[str, int] = {}
        self.items = 0

    def block(self, block: service_pb2.BlockResult, data: results.Data) -> None:
        """data: the block's large elements, by the path inside it."""
        first = block.first_item
        for field in ("loss", "input_gradient", "target_gradient"):
            if block.HasField(field):
                self._take(field, getattr(block, field), data.get((field,)), first)
        for one, tensor in block.outputs.ListFields():
            self._take(one.name, tensor, data.get(("outputs", one.name)), first)

    def _take(self, field: str, tensor: pb.Tensor, cut_out: memoryview | None, first: int) -> None:
        elements: Part = tensor.data if cut_out is None else cut_out
        shape = tuple(tensor.shape)
        if field not in self._whole:
            self._whole[field] = self._space(field, tensor.dtype, shape)
            self._filled[field] = 0
        memory: np.ndarray[Any, np.dtype[np.uint8]] = self._whole[field][0]
        item = memory.size // self._cut.items
        if not shape or len(elements) != shape[0] * item or first != self._filled[field]:
            raise _malformed(f"{field} of shape {shape} in {len(elements)} bytes at item {first}")
        if first + shape[0] > self._cut.items:
            raise _malformed(f"{field} of item {first + shape[0] - 1}: there are {self._cut.items}")
        memory[first * item : first * item + len(elements)] = np.frombuffer(elements, np.uint8)
        self._filled[field] = first + shape[0]
        self.items = max(self.items, first + shape[0])

    def _space(self, field: str, dtype: pb.DataType.ValueType, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Its bytes, flat, and what the caller gets."""
        name = field.removesuffix("_gradient")
        place = self._call.out.get(name) if name != field else None
        if place is not None:
            return place.memory, place.given
        whole = (self._cut.items, *shape[1:])
        if field == "loss" and self._call.rpc == "Activation":
            name = "input"
        given = self._call.operands.get(name) if name in ("input", "target") else None
        if given is not None and whole != given.shape:
            raise _malformed(f"{field} of shape {shape}")
        try:
            memory = np.empty(prod(whole) * tensors.item_bytes(dtype), np.uint8)
        except KeyError:
            raise _malformed(f"{field} of dtype {dtype}") from None
        return memory, tensors.adopt(dtype, whole, memory, torch=given is not None and given.torch)

    def result(self, response: Any, data: results.Data, denominator: MeanDenominator | None, total_s: float) -> Result:
        """Once the last message is there."""
        if any(filled != self._cut.items for filled in self._filled.values()):
            raise _malformed(f"{min(self._filled.values())} of {self._cut.items} items")
        result = results.from_message(
            self._call, response, data, total_s, {name: one[1] for name, one in self._whole.items()}
        )
        if denominator is None or denominator.is_plain:
            return result
        zero = self._call.asked.fields.get("empty_mean") == loss_pb2.EMPTY_MEAN_ZERO
        loss = denominator.loss(result.summary.loss_sum, empty_zero=zero)
        return replace(result, loss=np.asarray(loss, result.loss.dtype))


def _malformed(what: str) -> InternalError:
    return InternalError(f"a block of the answer holds {what}", reason="MALFORMED_ANSWER")
