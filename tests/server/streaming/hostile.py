"""Sequences of stream messages that began as right ones: fields at their ends, messages lost, doubled and cut."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from google.protobuf.message import Message

from lossd.v1 import loss_pb2
from lossd.v1 import service_pb2 as pb
from tests.losses.messages import tensor
from tests.server.streaming.conversation import messages, opened

ROWS, CLASSES = 6, 4
LOGITS = np.random.default_rng(3).normal(size=(ROWS, CLASSES))
SHARES = np.random.default_rng(4).uniform(0.1, 0.9, size=(ROWS, CLASSES))
GRADIENT: dict[str, Any] = {"gradients": [loss_pb2.GRADIENT_INPUT]}
# Numbers at which something begins or ends, and dtypes, enums and ids that there are.
EDGES: list[int] = [0, 1, 2, 3, 5, 7, 22, 23, -1, -2, 127, 128, 4096, 8192, 1 << 16, 1 << 20]
EDGES += [2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, -(2**63), 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")]


def requests() -> list[tuple[Any, list[str]]]:
    """Right requests, and the tensors of each that may be streamed."""
    labels = tensor(np.arange(ROWS) % CLASSES, "int64")
    logits, shares = tensor(LOGITS), tensor(SHARES)
    weight = tensor(SHARES[0])
    return [
        (pb.CrossEntropyRequest(input=logits, target=labels, **GRADIENT), ["input"]),
        (pb.CrossEntropyRequest(input=logits, target=labels, weight=weight, label_smoothing=0.1), ["input", "target"]),
        (pb.CrossEntropyRequest(input=logits, target=shares, target_kind=loss_pb2.KIND_PROBABILITIES), ["input"]),
        (pb.NLLRequest(input=logits, target=labels, reduction=loss_pb2.REDUCTION_NONE), ["input", "target"]),
        (pb.BCERequest(input=shares, target=shares, weight=shares, **GRADIENT), ["input", "target", "weight"]),
        (pb.BCEWithLogitsRequest(input=logits, target=shares, pos_weight=weight), ["input", "target"]),
        (pb.KLDivergenceRequest(input=logits, target=shares), ["input", "target"]),
        (pb.EntropyRequest(input=shares), ["input"]),
        (pb.SelfInformationRequest(input=shares), ["input"]),
        (pb.ActivationRequest(input=logits, function=loss_pb2.ACTIVATION_FUNCTION_SOFTMAX), ["input"]),
    ]


def hostile(rng: random.Random) -> list[bytes]:
    """The bytes of some messages, at least one of them changed."""
    given = requests()
    rows: list[list[Any]] = []
    for number in range(rng.randrange(1, 4)):
        request, streamed = rng.choice(given)
        if rng.random() < 0.3:
            opens = [opened(rng.choice(given)[0], rng.randrange(4)) for _ in range(rng.randrange(1, 5))]
            rows.append([pb.StreamRequest(opens=pb.Opens(opens=opens))])
        else:
            cuts = sorted({0, ROWS, *(rng.randrange(ROWS) for _ in range(2))}) if rng.random() < 0.7 else [0, ROWS]
            rows.append(list(messages(request, number, streamed, cuts)))
    line = interleaved(rows, rng)
    for _ in range(rng.randrange(1, 4)):
        rng.choice((lost, doubled, moved, field_changed, field_changed, field_changed))(line, rng)
    return [damaged(one.SerializeToString(), rng) for one in line]


def interleaved(rows: list[list[Any]], rng: random.Random) -> list[Any]:
    rows = [list(row) for row in rows]
    found = []
    while any(rows):
        found.append(rng.choice([row for row in rows if row]).pop(0))
    return found


def lost(line: list[Any], rng: random.Random) -> None:
    if len(line) > 1:
        del line[rng.randrange(len(line))]


def doubled(line: list[Any], rng: random.Random) -> None:
    line.insert(rng.randrange(len(line) + 1), rng.choice(line))


def moved(line: list[Any], rng: random.Random) -> None:
    line.insert(rng.randrange(len(line)), line.pop(rng.randrange(len(line))))


def field_changed(line: list[Any], rng: random.Random) -> None:
    """One field of one message, however deep, has another value."""
    place = rng.randrange(len(line))
    whole = type(line[place])()
    whole.CopyFrom(line[place])
    line[place] = whole
    message: Message = whole
    while True:
        below = children(message)
        if not below or rng.random() < 0.15:
            break
        message = rng.choice(below)
    change(message, rng)


def children(message: Message) -> list[Message]:
    found: list[Message] = []
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            found += list(value) if descriptor.is_repeated else [value]
    return found


def change(message: Any, rng: random.Random) -> None:
    if not message.DESCRIPTOR.fields:
        return
    descriptor = rng.choice(message.DESCRIPTOR.fields)
    name = descriptor.name
    if descriptor.message_type is not None:
        if descriptor.is_repeated:
            getattr(message, name).add()
        elif rng.random() < 0.5:
            message.ClearField(name)
        else:
            getattr(message, name).SetInParent()
        return
    by_type: dict[int, list[Any]] = {
        descriptor.CPPTYPE_STRING: [b"", b"\0", bytes(16), bytes(64), bytes(96), b"\xff" * 96, bytes(192)],
        descriptor.CPPTYPE_BOOL: [False, True],
        descriptor.CPPTYPE_DOUBLE: FLOATS,
        descriptor.CPPTYPE_FLOAT: FLOATS,
        descriptor.CPPTYPE_ENUM: [0, 1, 2, 3, 4, 5, 6, 21, 99, -1],
    }
    values = by_type.get(descriptor.cpp_type, EDGES)
    try:
        if not descriptor.is_repeated:
            setattr(message, name, rng.choice(values))
            return
        all_of = getattr(message, name)
        some: int = rng.randrange(len(all_of) + 1)
        if some < len(all_of) and rng.random() < 0.8:
            all_of[some] = rng.choice(values)
        elif rng.random() < 0.5 and len(all_of):
            del all_of[some - 1 if some else 0]
        else:
            all_of.append(rng.choice(values))
    except (ValueError, TypeError):  # beyond the field's type
        message.ClearField(name)


def damaged(body: bytes, rng: random.Random) -> bytes:
    """Mostly as it is; else a byte changed, or the end cut off."""
    if rng.random() < 0.93 or not body:
        return body
    place = rng.randrange(len(body))
    if rng.random() < 0.4:
        return body[:place]
    return body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]
