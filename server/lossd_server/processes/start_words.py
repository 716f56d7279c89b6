"""What a worker says of its start, through its pipe to the parent: one JSON array of texts, and never a pickle."""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import NamedTuple

from lossd.rpc.json_text import read_json

MOST_TEXT = 2048
MOST_BYTES = 1 << 17  # of three such texts, each character escaped


class StartWord(NamedTuple):
    """failed: why it could not start, else "" and the device and the backend that it has."""

    failed: str = ""
    device: str = ""
    backend: str = ""


def send_word(pipe: Connection, word: StartWord) -> None:
    """Sends it; of a long sentence the beginning."""
    pipe.send_bytes(json.dumps([text[:MOST_TEXT] for text in word]).encode())


def receive_word(pipe: Connection) -> StartWord:
    """The word that has come. EOFError where the worker ended without one, OSError where it is none."""
    try:
        found = read_json(pipe.recv_bytes(MOST_BYTES))
        failed, device, backend = (text for text in found if isinstance(text, str))
    except (ValueError, TypeError) as error:
        raise OSError("the worker said what is no word of its start") from error
    return StartWord(failed, device, backend)
