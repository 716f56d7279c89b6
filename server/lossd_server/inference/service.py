"""GRPCInferenceService: what it tells of itself and its models; evaluations go the way of lossd's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from lossd.version import __version__
from lossd_server.call.contract import Message, ServerCall
from lossd_server.errors import NotServed, ServerError
from lossd_server.inference.infer_session import RPC as STREAM_RPC
from lossd_server.inference.infer_session import InferSession
from lossd_server.inference.inference import Inference
from lossd_server.inference.model_description import config_response, metadata_response
from lossd_server.inference.models import MODELS, PLATFORM, VERSION, Model, model_of
from lossd_server.inference.protocol import INFERENCE_SERVICE, message_class
from lossd_server.inference.statistics import InferenceStatistics
from lossd_server.inference.templates import InferTemplate, InferTemplates
from lossd_server.rpc.dispatch import Dispatcher, ServiceMethod
from lossd_server.rpc.service import LossService, Translated
from lossd_server.rpc.small_calls import SmallCalls

EXTENSIONS = ("model_configuration", "parameters", "statistics")
NO_REGIONS = "shared memory of this protocol is not offered; lossd's own client has its own"
NO_LOADING = "models are the losses, which are always there: none is loaded or unloaded"
# Methods that clients know and this server does not offer.
NOT_OFFERED: Mapping[str, str] = {
    "RepositoryModelLoad": NO_LOADING,
    "RepositoryModelUnload": NO_LOADING,
    "SystemSharedMemoryStatus": NO_REGIONS,
    "SystemSharedMemoryRegister": NO_REGIONS,
    "SystemSharedMemoryUnregister": NO_REGIONS,
    "CudaSharedMemoryStatus": NO_REGIONS,
    "CudaSharedMemoryRegister": NO_REGIONS,
    "CudaSharedMemoryUnregister": NO_REGIONS,
    "TraceSetting": "tracing is not offered",
    "LogSettings": "logging is set where the server is started: lossd serve --log-level",
}

Answerer = Callable[[Any], bytes]


class InferenceService:
    """losses: whose evaluations and streams these are too. small: bounds calls beside admission."""

    def __init__(self, losses: LossService, small: SmallCalls) -> None:
        self._evaluations = losses.evaluations
        self._intake = losses.evaluations.intake
        self._streams = losses.streams
        losses.translations[f"/{INFERENCE_SERVICE}/ModelInfer"] = self.translate
        self._small = small
        self._templates = InferTemplates()
        self._statistics = InferenceStatistics()

    def add_to(self, dispatcher: Dispatcher) -> None:
        add = partial(dispatcher.add, INFERENCE_SERVICE)
        add("ModelInfer", self._infer)
        add(
            STREAM_RPC,
            partial(self._streams.handle, STREAM_RPC, partial(InferSession, self._templates, self._statistics)),
            streams=True,
        )
        for name, answer in self._answers().items():
            add(name, self._small.bounded(self._answering(name, answer)))
        for name, sentence in NOT_OFFERED.items():
            add(name, _refusing(name, sentence))

    def translate(self, message: bytes, max_response_bytes: int | None) -> Translated | None:
        """`rpc.service.Translate`: a ModelInfer like one before."""
        template = self._templates.find(message)
        if template is None or (max_response_bytes is not None and template.response.answer_bytes > max_response_bytes):
            return None
        return Translated(template.model.rpc, template.own_request(message), partial(self._at_once, template))

    def _at_once(self, template: InferTemplate, answer: bytes) -> bytes:
        response, took = template.response.response(answer)
        queue_ns, compute_ns = took.queue_ns, took.compute_ns
        self._statistics.succeeded(
            template.model.name, queue_ns + compute_ns, queue_ns, compute_ns, took.batch_requests
        )
        return response

    async def _infer(self, source: ServerCall) -> Message:
        inference = Inference(self._intake, self._templates, self._statistics)
        try:
            answer = await self._evaluations.evaluate("ModelInfer", source, inference.read, lambda: inference.loss)
        except ServerError:
            inference.ended(False)
            raise
        inference.ended(True)
        return answer

    def _answers(self) -> dict[str, Answerer]:
        """What answers each of the small calls."""
        live, ready = message_class("ServerLiveResponse"), message_class("ServerReadyResponse")
        server, model_ready = message_class("ServerMetadataResponse"), message_class("ModelReadyResponse")
        index = message_class("RepositoryIndexResponse")
        return {
            "ServerLive": lambda _: _bytes(live(live=True)),
            "ServerReady": lambda _: _bytes(ready(ready=not self._intake.closing)),
            "ServerMetadata": lambda _: _bytes(server(name=PLATFORM, version=__version__, extensions=EXTENSIONS)),
            "ModelReady": lambda asked: _bytes(model_ready(ready=bool(_model(asked)) and not self._intake.closing)),
            "ModelMetadata": lambda asked: metadata_response(_model(asked)),
            "ModelConfig": lambda asked: config_response(_model(asked)),
            "ModelStatistics": lambda asked: _bytes(
                self._statistics.response([_model(asked).name] if asked.name else list(MODELS))
            ),
            "RepositoryIndex": lambda _: _bytes(
                index(models=[{"name": name, "version": VERSION, "state": "READY"} for name in MODELS])
            ),
        }

    def _answering(self, name: str, answer: Answerer) -> ServiceMethod:
        request = message_class(f"{name}Request")

        async def handle(call: ServerCall) -> bytes:
            return answer(await self._small.read(call, request))

        return handle


def _refusing(name: str, sentence: str) -> Callable[[ServerCall], Awaitable[Message | None]]:
    async def refuse(_: ServerCall) -> None:
        raise NotServed(sentence, reason="NOT_SERVED", metadata={"method": name})

    return refuse


def _model(asked: Any) -> Model:
    return model_of(asked.name, asked.version)


def _bytes(message: Any) -> bytes:
    body: bytes = message.SerializeToString()
    return body
