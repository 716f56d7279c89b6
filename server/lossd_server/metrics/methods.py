"""Methods as labels: every RPC that a server of ours may have, and one for whatever else is called."""

from __future__ import annotations

from typing import NamedTuple

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from lossd.v1 import service_pb2

# Of the Open Inference Protocol, whose descriptors are in a pool of their own (`inference.protocol`).
INFERENCE = "inference.GRPCInferenceService"
INFERENCE_METHODS = (
    "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "ModelStreamInfer",
    "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
)  # fmt: skip
# Of health's those that are served: its later versions have more.
HEALTH_METHODS = ("Check", "Watch")
UNKNOWN = "unknown"


class MethodLabels(NamedTuple):
    """As the labels have it: grpc_type, grpc_service, grpc_method."""

    type: str
    service: str
    method: str

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.method}"

    @property
    def streams(self) -> bool:
        """Whether any number of messages answers a call."""
        return self.type != "unary"


def _type_of(requests: bool, responses: bool) -> str:
    if requests:
        return "bidi_stream" if responses else "client_stream"
    return "server_stream" if responses else "unary"


def _methods() -> tuple[MethodLabels, ...]:
    found = []
    for file, renamed in (
        (service_pb2, None),
        (health_pb2, None),
        (reflection_pb2, None),
        (reflection_pb2, "grpc.reflection.v1.ServerReflection"),
    ):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if file is health_pb2 and method.name not in HEALTH_METHODS:
                    continue
                kind = _type_of(method.client_streaming, method.server_streaming)
                found.append(MethodLabels(kind, renamed or service.full_name, method.name))
    found += [MethodLabels(_type_of("Stream" in name, "Stream" in name), INFERENCE, name) for name in INFERENCE_METHODS]
    # What no method has: paths are their callers' to choose, and would be labels without number.
    return (*found, MethodLabels("unary", UNKNOWN, UNKNOWN))


METHODS = _methods()
# Those that evaluate losses: what clients balance.
EVALUATING = tuple(
    place
    for place, labels in enumerate(METHODS)
    if (labels.service == "lossd.v1.LossService" and labels.method != "GetServerInfo")
    or labels.method in ("ModelInfer", "ModelStreamInfer")
)
PLACES = {labels.path: place for place, labels in enumerate(METHODS)}
UNKNOWN_PLACE = len(METHODS) - 1

# Losses as labels: the unary RPCs; the last for what failed before its loss was known.
LOSSES = (
    *(
        labels.method
        for labels in METHODS
        if labels.service == "lossd.v1.LossService" and not labels.streams and labels.method != "GetServerInfo"
    ),
    UNKNOWN,
)
LOSS_PLACES = {loss: place for place, loss in enumerate(LOSSES)}
UNKNOWN_LOSS = len(LOSSES) - 1
