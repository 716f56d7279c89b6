"""Triton's client, unchanged: makes the calls of a file, in one of its ways, and writes what came back.

    .venv/tritonclient/bin/python tests/inference/triton_calls.py ADDRESS WAY CASES RESULTS [CLIENT]

CLIENT: the client's arguments, in JSON; a case may have headers, and a stream has those of its first.
Nothing of lossd is imported: its environment does not have it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

WAIT_S = 60.0


def arguments(case: Any) -> dict[str, Any]:
    """Of `infer` and its kin."""
    inputs = []
    for sent in case["inputs"]:
        values = np.frombuffer(base64.b64decode(sent["data"]), triton_to_np_dtype(sent["datatype"]))
        made = triton.InferInput(sent["name"], sent["shape"], sent["datatype"])
        made.set_data_from_numpy(values.reshape(sent["shape"]))
        inputs.append(made)
    asked = case["outputs"]
    return {
        "model_name": case["model"],
        "inputs": inputs,
        "outputs": None if asked is None else [triton.InferRequestedOutput(name) for name in asked],
        "request_id": case["id"],
        "parameters": case["parameters"],
    }


def told(result: Any, error: Any = None) -> dict[str, Any]:
    """What came back, or what was said."""
    if error is not None:
        return {"error": error.message(), "status": error.status()}
    response = result.get_response()
    outputs = {}
    for output in response.outputs:
        values = result.as_numpy(output.name)
        outputs[output.name] = {
            "datatype": np_to_triton_dtype(values.dtype),
            "shape": list(values.shape),
            "data": base64.b64encode(values.tobytes()).decode(),
        }
        assert output.datatype == outputs[output.name]["datatype"]
    return {"id": response.id, "model": response.model_name, "outputs": outputs}


def infer(client: Any, cases: Iterable[Any]) -> list[Any]:
    found = []
    for case in cases:
        try:
            found.append(told(client.infer(headers=case.get("headers"), **arguments(case))))
        except InferenceServerException as error:
            found.append(told(None, error))
    return found


def async_infer(client: Any, cases: Iterable[Any]) -> list[Any]:
    """All at once; each has a callback."""
    waiting = []
    for case in cases:
        answers: queue.Queue[Any] = queue.Queue()
        client.async_infer(
            callback=lambda result, error, answers=answers: answers.put((result, error)),
            headers=case.get("headers"),
            **arguments(case),
        )
        waiting.append(answers)
    return [told(*answers.get(timeout=WAIT_S)) for answers in waiting]


def async_stream_infer(client: Any, cases: Sequence[Any]) -> list[Any]:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=cases[0].get("headers"))
    count = 0
    for case in cases:
        count += 1
        with suppress(InferenceServerException):  # the stream has ended by now: its callback says why
            client.async_stream_infer(**arguments(case))
    found = [told(*answers.get(timeout=WAIT_S)) for _ in range(count)]
    client.stop_stream()
    return found


async def aio_infer(client: Any, cases: Iterable[Any]) -> list[Any]:
    """All at once."""

    async def one(case: Any) -> Any:
        try:
            return told(await client.infer(headers=case.get("headers"), **arguments(case)))
        except InferenceServerException as error:
            return told(None, error)

    return list(await asyncio.gather(*map(one, cases)))


async def aio_stream_infer(client: Any, cases: Sequence[Any]) -> list[Any]:
    async def requests() -> AsyncIterator[Any]:
        for case in cases:
            yield arguments(case)

    answers = client.stream_infer(requests(), headers=cases[0].get("headers"))
    try:
        return [told(result, error) async for result, error in answers]
    except grpc.aio.AioRpcError as error:  # as Triton's client lets it through
        return [{"error": error.details(), "status": str(error.code())}]


def message_of(call: Callable[[], Any]) -> list[str]:
    """Status and sentence of a call that fails."""
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    raise AssertionError("the call was answered")


def tell(client: Any, cases: Iterable[Any]) -> Any:
    """What the client asks beside inference."""
    models = [case["model"] for case in cases]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "models": [client.is_model_ready(model) and client.is_model_ready(model, "1") for model in models],
        "server": client.get_server_metadata(as_json=True),
        "metadata": [client.get_model_metadata(model, as_json=True) for model in models],
        "config": [client.get_model_config(model, as_json=True)["config"] for model in models],
        "index": client.get_model_repository_index(as_json=True)["models"],
        "statistics": client.get_inference_statistics(as_json=True)["model_stats"],
        "refused": {
            "unknown model": message_of(lambda: client.is_model_ready("nnl")),
            "load": message_of(lambda: client.load_model("nll")),
            "unload": message_of(lambda: client.unload_model("nll")),
            "shared memory": message_of(lambda: client.register_system_shared_memory("region", "/key", 64)),
            "regions": message_of(client.get_cuda_shared_memory_status),
            "trace": message_of(client.get_trace_settings),
            "log": message_of(client.get_log_settings),
        },
    }


async def by_aio(way: Callable[[Any, Any], Any], address: str, cases: Any, given: Any) -> Any:
    async with triton_aio.InferenceServerClient(address, **given) as client:
        return await way(client, cases)


BLOCKING = {way.__name__: way for way in (infer, async_infer, async_stream_infer, tell)}
AIO = {way.__name__: way for way in (aio_infer, aio_stream_infer)}


def main() -> None:
    address, way, read, written, *rest = sys.argv[1:]
    given = json.loads(rest[0]) if rest else {}
    cases = json.loads(Path(read).read_text(encoding="utf-8"))
    if way in BLOCKING:
        with triton.InferenceServerClient(address, **given) as client:
            found = BLOCKING[way](client, cases)
    else:
        found = asyncio.run(by_aio(AIO[way], address, cases, given))
    Path(written).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
