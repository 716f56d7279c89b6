"""What a cut must be: put together again, the message that the generated class makes of the same bytes."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from lossd.wire import take_large_data


def agree(descriptor: Descriptor, body: bytes, least: int) -> int:
    """Cuts `body` and fails where the generated class sees it otherwise. The number of tensors that were cut."""
    whole = parsed(descriptor, body)
    try:
        message, views = take_large_data(descriptor, body, least)
    except DecodeError:
        assert whole is None, "refused, but the generated class takes it"
        return 0
    assert whole is not None, "taken, but the generated class refuses it"
    for path, view in views.items():
        tensor: Any = message
        for name in path:
            assert tensor.HasField(name), path
            tensor = getattr(tensor, name)
        assert tensor.WhichOneof("storage") is None, path
        assert len(view) >= least, path
        tensor.data = bytes(view)
    # As bytes: they tell unknown fields apart, and NaN is equal to itself.
    assert message.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)
    return len(views)


def parsed(descriptor: Descriptor, body: bytes) -> Message | None:
    """What the generated class says."""
    try:
        return GetMessageClass(descriptor).FromString(body)
    except DecodeError:
        return None
