"""Region registry: which token stands for which region, and what tensors and gradients lie there.

A token is a capability: whoever has it may use the region, and who has not learns nothing. What is read here may change
at any time. So numbers that something is looked up by, the integers, are copied before they are checked; of floats only
the values can be wrong.
"""

from __future__ import annotations

import secrets
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.contract import copied_bytes, gradient_dtype
from lossd.shared_memory import socket_protocol
from lossd.v1 import loss_pb2 as pb
from lossd.v1.tensor_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_FLOAT64
from lossd_server import losses
from lossd_server.call.identity import CALLER
from lossd_server.errors import InvalidRequest, NotFound, TooLarge
from lossd_server.jobs.job import Job
from lossd_server.jobs.slicing import items
from lossd_server.shared_memory.mapped_region import MappedRegion, NotTaken
from lossd_server.shared_memory.region_shares import RegionShares
from lossd_server.tensors.array import FLOATS, STORAGE
from lossd_server.tensors.request_fields import Fields, SharedMemoryRef, WireTensor

GRADIENTS: dict[int, str] = {pb.GRADIENT_INPUT: "input", pb.GRADIENT_TARGET: "target", pb.GRADIENT_WEIGHT: "weight"}
MAX_PLACEMENTS = 8  # more than there are gradients

FLOAT32, FLOAT64 = DATA_TYPE_FLOAT32, DATA_TYPE_FLOAT64

FLOAT64_BYTES = 8

# A file, and the first and the last byte + 1 of a range of it.
Range = tuple[tuple[int, int], int, int]


class RegionRegistry:
    """The table. Belongs to one thread; memory may go in any.

    max_copied_bytes: of one request. room: raises where the process has no room for so many bytes of copies.
    """

    def __init__(
        self,
        max_bytes: int,
        max_copied_bytes: int,
        room: Callable[[int], None] | None = None,
        shares: RegionShares | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self._room = room
        self._max_copied_bytes = max_copied_bytes
        self._shares = shares or RegionShares()
        self._regions: dict[bytes, MappedRegion] = {}
        self._held: dict[Hashable, set[bytes]] = {}
        self._processes: dict[bytes, Hashable] = {}  # by token
        self._callers: dict[bytes, Hashable] = {}  # by token: the first whose call presented it
        self._charged = 0
        self._gone: deque[int] = deque()  # sizes of mappings that went: an append needs no lock

    @property
    def taken_bytes(self) -> int:
        """Of all mappings there are: those of ended regions too, while a job reads them."""
        while self._gone:
            self._charged -= self._gone.popleft()
        return self._charged

    def __len__(self) -> int:
        return len(self._regions)

    def admit(self, process: Hashable, size: int) -> None:
        """Raises NotTaken where a region of `size` bytes has no room: before anything is mapped."""
        if size > self.max_bytes:
            sentence = f"the region has {size} bytes, this server takes {self.max_bytes} in all"
            raise NotTaken("REGION_TOO_LARGE", sentence)
        if self.taken_bytes + size > self.max_bytes:
            sentence = f"a region of {size} bytes does not fit: {self.taken_bytes} of {self.max_bytes} bytes are taken"
            raise NotTaken(socket_protocol.FULL, sentence)
        self._shares.require(process)

    def add(self, owner: Hashable, region: MappedRegion, process: Hashable = None) -> bytes:
        """The token of a region that was admitted for `process`. It ends with `remove` or `leave` of its owner."""
        token = secrets.token_bytes(socket_protocol.TOKEN_BYTES)
        self._regions[token] = region
        self._processes[token] = process
        self._held.setdefault(owner, set()).add(token)
        self._shares.add(process)
        self._charged += region.size
        region.unmapped = finalizer = weakref.finalize(region.memory, self._gone.append, region.size)
        finalizer.atexit = False
        return token

    def remove(self, owner: Hashable, token: bytes) -> list[MappedRegion]:
        """Ends the owner's region; nothing where it has no such one. What ended is for the caller to let go."""
        held = self._held.get(owner, set())
        if token not in held:
            return []
        held.discard(token)
        return [self._end(token)]

    def leave(self, owner: Hashable) -> list[MappedRegion]:
        """Ends all of the owner's regions."""
        return [self._end(token) for token in self._held.pop(owner, ())]

    def _end(self, token: bytes) -> MappedRegion:
        self._shares.remove(self._processes.pop(token))
        self._callers.pop(token, None)
        return self._regions.pop(token)

    def job(self, rpc: str, fields: Fields) -> Job:
        """The validated job of a request whose tensors may lie here: `losses.check` between `resolve` and `place`."""
        placements_of(fields)
        here = self.resolve(fields)
        if here is fields:
            return self.place(losses.check(rpc, fields), fields)
        job = self.place(losses.check(rpc, here), fields)
        copied = copied_here(fields)
        if items(job) == 1 and not job.formula.elementwise:  # never cut: the losses of its rows are there at once
            self._check_copies(copied + job.layout.rows * FLOAT64_BYTES)
        return replace(job, copied_bytes=copied + job.copied_bytes)

    def resolve(self, fields: Fields) -> Fields:
        """The fields with every tensor in shared memory as a view of it; integers as a copy.

        Raises NotFound and InvalidRequest, TooLarge for more copies than a message may hold, and what `require` raises.
        """
        there = {name: sent for name, sent in fields.items() if isinstance(sent, WireTensor) and sent.place is not None}
        if not there:
            return fields
        viewed = {name: self._viewed(name, sent) for name, sent in there.items()}
        self._check_copies(copied_here(fields))
        for name, sent in viewed.items():
            if sent.dtype not in FLOATS:
                viewed[name] = replace(sent, data=bytes(sent.data))
        return {**fields, **viewed}

    def place(self, job: Job, fields: Fields) -> Job:
        """The job with its gradients placed as `placements` says. Raises NotFound and InvalidRequest."""
        placements = placements_of(fields)
        if not placements:
            return job
        taken = [
            (self._range(sent.place), name)
            for name, sent in fields.items()
            if isinstance(sent, WireTensor) and sent.place is not None and sent.place.length
        ]
        placed: dict[str, npt.NDArray[Any]] = {}
        places: dict[str, SharedMemoryRef] = {}
        for position, placement in enumerate(placements):
            field = f"placements[{position}]"
            name, dtype, size = _wanted(job, placement.gradient, field)
            if name in placed:
                raise _refused(f"{field} places the gradient of {name} a second time", "PLACED_TWICE", field)
            stored, lies = STORAGE[dtype], placement.shared_memory
            place = SharedMemoryRef(lies.token, lies.offset, lies.length)
            view = self._view(field, place, size, stored.itemsize)
            if size:
                here = self._range(place)
                for (file, first, last), other in taken:
                    if file == here[0] and first < here[2] and here[1] < last:
                        raise _refused(
                            f"{field} overlaps {other}: a gradient needs memory of its own", "OVERLAP", field
                        )
                taken.append((here, field))
            placed[name] = np.frombuffer(view, stored) if size else np.empty(0, stored)
            places[name] = place
        return replace(job, placed=placed, places=places)

    def _check_copies(self, size: int) -> None:
        if size > self._max_copied_bytes:
            raise TooLarge(
                f"the tensors in shared memory need {size} bytes outside it, and at most {self._max_copied_bytes} are "
                "given: only floats of 16 bits or more are used where they lie",
                reason="COPIES_TOO_LARGE",
                metadata={"size_bytes": size, "max_copied_bytes": self._max_copied_bytes},
            )
        if self._room is not None:
            self._room(size)

    def _viewed(self, field: str, sent: WireTensor) -> WireTensor:
        stored = STORAGE.get(sent.dtype)
        assert sent.place is not None
        if stored is None or min(sent.shape, default=0) < 0:
            return replace(sent, storage="data")  # refused for that by whoever looks at it next
        view = self._view(field, sent.place, prod(sent.shape) * stored.itemsize, stored.itemsize)
        return replace(sent, storage="data", data=view.toreadonly())

    def _view(self, field: str, place: SharedMemoryRef, expected: int, itemsize: int) -> memoryview:
        """The bytes of a place that holds `expected` bytes of elements of `itemsize`."""
        region = self._region(place.token)
        if place.length != expected:
            raise InvalidRequest(
                f"{field} has {place.length} bytes in shared memory, but its shape and dtype take {expected}",
                reason="LENGTH_MISMATCH",
                field=field,
                metadata={"bytes": place.length, "expected": expected},
            )
        if not bounds(place.offset, place.length, region.size):
            raise InvalidRequest(
                f"{field} is {place.length} bytes at offset {place.offset} of a region of {region.size} bytes",
                reason="OUT_OF_BOUNDS",
                field=field,
                metadata={"offset": place.offset, "length": place.length, "size": region.size},
            )
        if place.offset % itemsize:
            raise InvalidRequest(
                f"{field} is at offset {place.offset}, which is no multiple of its elements' {itemsize} bytes",
                reason="MISALIGNED",
                field=field,
                metadata={"offset": place.offset, "itemsize": itemsize},
            )
        return memoryview(region.memory)[place.offset : place.offset + place.length]

    def _range(self, place: SharedMemoryRef) -> Range:
        return self._region(place.token).file, place.offset, place.offset + place.length

    def _region(self, token: bytes) -> MappedRegion:
        region = self._regions.get(token)
        # Guessed, another server's, ended, another identity's: nobody learns which.
        if region is None or self._callers.setdefault(token, _shown_identity()) != _shown_identity():
            raise NotFound(
                "there is no such region of shared memory: register the memory, and use its token while the connection"
                " lasts",
                reason=socket_protocol.UNKNOWN_REGION,
            )
        return region


def _shown_identity() -> str | None:
    """The name of who makes the call that runs, where that was asked for: its limits may change."""
    identity = CALLER.get()
    return identity.name if identity is not None and identity.verified else None


def bounds(offset: int, length: int, size: int) -> bool:
    """Whether `length` bytes from `offset` lie within `size` bytes. No sum, which in other languages overflows."""
    return 0 <= offset <= size and 0 <= length <= size - offset


def copied_here(fields: Fields) -> int:
    """Bytes in shared memory that cost memory of this process, as a message's would: copied here, or widened later."""
    tensors = ((name, sent) for name, sent in fields.items() if isinstance(sent, WireTensor))
    there = ((name, sent.dtype, sent.place.length if sent.place is not None else 0) for name, sent in tensors)
    return copied_bytes(there, fields.get("target_kind") == pb.KIND_COUNTS)


def placements_of(fields: Fields) -> Sequence[pb.Placement]:
    """The request's placements, counted before anything is done about them. Raises InvalidRequest."""
    found: Sequence[pb.Placement] = fields.get("placements", ())
    if len(found) > MAX_PLACEMENTS:
        raise _refused(
            f"placements has {len(found)} entries, at most {MAX_PLACEMENTS} are taken", "OPTION_OUT_OF_RANGE"
        )
    return found


def _wanted(job: Job, gradient: int, field: str) -> tuple[str, int, int]:
    """Name, wire dtype and bytes of a gradient that was asked for."""
    name = GRADIENTS.get(gradient)
    if name is None:
        raise _refused(
            f"{field} is for gradient {gradient}, which is not one of {', '.join(GRADIENTS.values())}",
            "UNKNOWN_ENUM",
            field,
        )
    operand = job.input if name == "input" else job.target
    asked = {"input": job.input_gradient, "target": job.target_gradient, "weight": job.weight_gradient}[name]
    if not asked or operand is None:
        raise _refused(f"{field} places the gradient of {name}, which is not asked for", "NOT_ASKED_FOR", field)
    if name == "weight":
        return name, job.weight_dtype, job.layout.classes * STORAGE[job.weight_dtype].itemsize
    dtype = gradient_dtype(operand.dtype)
    return name, dtype, operand.size * STORAGE[dtype].itemsize


def _refused(sentence: str, reason: str, field: str = "placements") -> InvalidRequest:
    return InvalidRequest(sentence, reason=reason, field=field, metadata={"field": field})
