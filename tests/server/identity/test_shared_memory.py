"""Shared memory has no identity of its own: a region is the caller's whose call first presents its token."""

from __future__ import annotations

from contextvars import Context

import pytest

from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.call.identity import CALLER, Identity
from lossd_server.errors import NotFound
from lossd_server.shared_memory.mapped_region import unmap
from lossd_server.shared_memory.registry import RegionRegistry
from lossd_server.tensors.request_fields import Fields, fields_of
from tests.server.shared_memory.test_registry import OWNER, region, there

TRAINER, STRANGER = Identity("trainer"), Identity("stranger")


def resolved(regions: RegionRegistry, fields: Fields, caller: Identity | None) -> Fields:
    """As by a call of `caller`."""

    def resolve() -> Fields:
        CALLER.set(caller)
        return regions.resolve(fields)

    return Context().run(resolve)


@pytest.mark.parametrize("others", [(STRANGER, None), (None, STRANGER)])
def test_a_region_is_its_first_callers(others: tuple[Identity | None, ...]) -> None:
    """Nobody else who presents the token learns that there is such a region; its caller may go on."""
    regions = RegionRegistry(1 << 20, 4096)
    token = regions.add(OWNER, region())
    request = service.EntropyRequest(input=there(token, 0, (4, 8), pb.DATA_TYPE_FLOAT32))
    fields = fields_of(request, {})
    try:
        assert resolved(regions, fields, TRAINER)["input"].data is not None
        for other in others:
            with pytest.raises(NotFound) as caught:
                resolved(regions, fields, other)
            assert caught.value.reason == "UNKNOWN_REGION"

        assert resolved(regions, fields, Identity("trainer"))["input"].data is not None
    finally:
        unmap(regions.leave(OWNER))
