"""Requests checked as a server checks them, from their messages."""

from __future__ import annotations

from google.protobuf.message import Message

from lossd_server import losses
from lossd_server.jobs.job import Job
from lossd_server.tensors import request_fields


def check(rpc: str, request: Message) -> Job:
    """The validated request of a message that holds its tensors. Raises InvalidRequest, NotServed."""
    return losses.check(rpc, request_fields.fields_of(request))
