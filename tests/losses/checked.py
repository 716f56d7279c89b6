"""Requests checked as a server checks them, from their messages."""

from __future__ import annotations

import re

from google.protobuf.message import Message

from lossd_server import losses
from lossd_server.errors import ServerError
from lossd_server.jobs.job import Job
from lossd_server.tensors import request_fields


def check(rpc: str, request: Message) -> Job:
    """The validated request of a message that holds its tensors. Raises InvalidRequest, NotServed."""
    return losses.check(rpc, request_fields.fields_of(request))


# How the wire's enums name their values: never how a sentence does.
WIRE_NAME = re.compile(r"\b(DATA_TYPE|KIND|GRADIENT|REDUCTION|OUTPUT|EMPTY_MEAN|ACTIVATION_FUNCTION)_")


def is_plain(error: ServerError) -> bool:
    """Whether sentence and variables are one line each, in the words that people have for options and dtypes."""
    return not any("\n" in text or WIRE_NAME.search(text) for text in (error.message, *error.metadata.values()))
