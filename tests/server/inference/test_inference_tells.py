"""What the inference service tells of itself, its models and its work, and what it does not offer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from lossd.version import __version__
from lossd_server.backends import Backend
from lossd_server.inference.models import MODELS
from lossd_server.inference.protocol import INFERENCE_SERVICE, message_class
from lossd_server.inference.service import NOT_OFFERED
from lossd_server.server import Server
from tests.losses.requests import cross_entropy
from tests.server.edge import EdgeBackend
from tests.server.inference.inferring import MODEL_INFER, Handle, inferred, refusal_of, streamed, with_server
from tests.server.running import serving


async def asked(handle: Handle, rpc: str, **fields: Any) -> Any:
    answer = await handle(f"/{INFERENCE_SERVICE}/{rpc}", message_class(f"{rpc}Request")(**fields).SerializeToString())
    assert isinstance(answer, bytes), answer
    return message_class(f"{rpc}Response").FromString(answer)


def test_of_itself_and_its_models() -> None:
    """Live, ready, its version; every model is ready, has metadata and a configuration, and stands in the index."""

    async def body(handle: Handle, _: Server) -> None:
        assert (await asked(handle, "ServerLive")).live
        assert (await asked(handle, "ServerReady")).ready
        server = await asked(handle, "ServerMetadata")
        assert (server.name, server.version) == ("lossd", __version__)
        index = await asked(handle, "RepositoryIndex")
        assert [(one.name, one.version, one.state) for one in index.models] == [(name, "1", "READY") for name in MODELS]
        for name, model in MODELS.items():
            for version in ("", "1"):
                assert (await asked(handle, "ModelReady", name=name, version=version)).ready
            metadata = await asked(handle, "ModelMetadata", name=name)
            config = (await asked(handle, "ModelConfig", name=name)).config
            assert [one.name for one in metadata.inputs] == [one.name for one in config.input] == list(model.inputs)
            assert [one.name for one in metadata.outputs] == [one.name for one in config.output] == list(model.outputs)
            assert tuple(one.name for one in config.input if not one.optional) == model.required
            assert (metadata.platform, config.max_batch_size) == ("lossd", 0)

    with_server(EdgeBackend(), body)


@pytest.mark.parametrize("rpc", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_unknown_models(rpc: str) -> None:
    """NOT_FOUND, and the sentence names the models there are."""

    async def body(handle: Handle, _: Server) -> None:
        request = message_class(f"{rpc}Request")(name="nnl")
        told = refusal_of(await handle(f"/{INFERENCE_SERVICE}/{rpc}", request.SerializeToString()))

        assert told[:3] == ("NOT_FOUND", "UNKNOWN_MODEL", "name")
        assert "the models are entropy, cross_entropy, " in told[3]

    with_server(EdgeBackend(), body)


def test_a_stopping_server_is_not_ready() -> None:
    """Live still, not ready, nor any model; evaluations are refused with UNAVAILABLE."""

    async def body(handle: Handle, server: Server) -> None:
        await server.service.drain(1.0)

        assert (await asked(handle, "ServerLive")).live
        assert not (await asked(handle, "ServerReady")).ready
        assert not (await asked(handle, "ModelReady", name="nll")).ready
        assert refusal_of(await handle(MODEL_INFER, b""))[:2] == ("UNAVAILABLE", "GOING_AWAY")

    with_server(EdgeBackend(), body)


@pytest.mark.parametrize("rpc", NOT_OFFERED)
def test_what_is_not_offered(rpc: str) -> None:
    """UNIMPLEMENTED, with a sentence that says why, whatever the message."""

    async def body(handle: Handle, _: Server) -> None:
        code, reason, _field, sentence = refusal_of(await handle(f"/{INFERENCE_SERVICE}/{rpc}", b"\x0a\xff"))

        assert (code, reason, sentence) == ("UNIMPLEMENTED", "NOT_SERVED", NOT_OFFERED[rpc])

    with_server(EdgeBackend(), body)


def test_statistics(numba: Backend) -> None:
    """By model: what was answered, unary or streamed, first or recalled, and what failed; in all counts too."""

    async def body(handle: Handle, server: Server) -> None:
        good = inferred(cross_entropy()).SerializeToString()
        bad = inferred(cross_entropy(label_smoothing=3.0)).SerializeToString()
        for message in (good, good, good, bad, b"\xff"):
            await handle(MODEL_INFER, message)
        await streamed(server.routes, [good, bad, good])
        found = await asked(handle, "ModelStatistics")
        (one,) = (await asked(handle, "ModelStatistics", name="cross_entropy")).model_stats
        (idle,) = (await asked(handle, "ModelStatistics", name="nll")).model_stats
        took = one.inference_stats

        assert [model.name for model in found.model_stats] == list(MODELS)
        assert (one.inference_count, took.success.count, took.fail.count) == (5, 5, 2)
        assert 1 <= one.execution_count <= 5
        assert took.success.ns >= took.compute_infer.ns > 0
        assert (idle.last_inference, idle.inference_count) == (0, 0)
        assert one.last_inference > 1_700_000_000_000
        assert server.metrics.evaluations() == (5, 3)

    with_server(numba, body)


def test_health() -> None:
    """Its name is known to grpc.health.v1."""

    async def run() -> None:
        async with serving(EdgeBackend()) as (_, channel):
            stub: Any = HealthStub(channel)
            answer = await stub.Check(HealthCheckRequest(service=INFERENCE_SERVICE))

            assert answer.status == HealthCheckResponse.SERVING

    asyncio.run(run())


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(version: str) -> None:
    """The service is listed, and its file, found by service and by message, makes the same messages elsewhere."""

    async def run() -> None:
        questions = [
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol=INFERENCE_SERVICE),
            ServerReflectionRequest(file_containing_symbol="inference.ModelInferRequest.InferInputTensor"),
            ServerReflectionRequest(file_by_filename="inference/grpc_service.proto"),
            ServerReflectionRequest(file_containing_symbol="lossd.v1.LossService"),
            ServerReflectionRequest(file_containing_symbol="inference.Nothing"),
        ]
        async with serving(EdgeBackend()) as (_, channel):
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=ServerReflectionRequest.SerializeToString,
                response_deserializer=ServerReflectionResponse.FromString,
            )
            listed, *files, ours, missing = [answer async for answer in ask(iter(questions))]

        assert INFERENCE_SERVICE in [one.name for one in listed.list_services_response.service]
        assert len({answer.file_descriptor_response.SerializeToString() for answer in files}) == 1
        pool = DescriptorPool()
        for body in files[0].file_descriptor_response.file_descriptor_proto:
            pool.AddSerializedFile(body)
        assert "ModelInfer" in pool.FindServiceByName(INFERENCE_SERVICE).methods_by_name
        names = [
            FileDescriptorProto.FromString(body).name for body in ours.file_descriptor_response.file_descriptor_proto
        ]
        assert "lossd/v1/service.proto" in names
        assert missing.HasField("error_response")

    asyncio.run(run())
