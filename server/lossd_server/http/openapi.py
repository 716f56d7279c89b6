"""OpenAPI document of the HTTP port: what each loss takes and gives, from the messages of the contract."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from lossd.contract import KINDS, MAX_RANK, value_names
from lossd.version import __version__
from lossd_server.http.json.request import ENCODINGS, GRADS, MOST_ENTRIES
from lossd_server.http.json.tensors import DTYPES, WORDS
from lossd_server.http.losses import MOST_ANSWER_BYTES, MOST_BODY_BYTES, TIMEOUT_S
from lossd_server.inference.models import AUXILIARY, MODELS, WITH_GRADIENT, Model
from lossd_server.wire.codec import METHODS

JSON = "application/json"
WHAT = {
    "entropy": "Entropy of each row",
    "cross_entropy": "Cross-entropy of each row and its target",
    "bce": "Binary cross-entropy of probabilities",
    "bce_with_logits": "Binary cross-entropy of logits",
    "kl_divergence": "Kullback-Leibler divergence",
    "nll": "Negative log-likelihood of log-probabilities",
    "self_information": "Self-information of probabilities",
    "softmax": "Softmax of each row",
    "log_softmax": "Logarithm of the softmax of each row",
    "sigmoid": "Sigmoid",
    "log_sigmoid": "Logarithm of the sigmoid",
}
# What a refusal can have for HTTP's status.
REFUSALS = {
    "400": "The request is wrong, and always will be.",
    "401": "The server asks who calls.",
    "404": "There is no such loss.",
    "413": (
        f"The body has over {MOST_BODY_BYTES} bytes or {MOST_ENTRIES} numbers, or the answer would have over"
        f" {MOST_ANSWER_BYTES} bytes: use gRPC."
    ),
    "429": "The server is full now: come back after `retry_after_s`.",
    "500": "The server failed; its log tells more under the request id.",
    "501": "This server does not have that.",
    "503": "The server starts or stops: come back after `retry_after_s`.",
    "504": f"There was no answer within {TIMEOUT_S:g} s.",
}


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lossd",
            "version": __version__,
            "summary": "Losses and their gradients, for small payloads",
            "description": (
                f"Bodies have at most {MOST_BODY_BYTES} bytes; larger tensors go by gRPC. NaN and infinities are the"
                f" strings {', '.join(WORDS)}, both ways."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            **{f"/v1/losses/{name}": {"post": _operation(model)} for name, model in MODELS.items()},
            "/v1/status": _read("status", "What the server counts and how full it is", JSON, {"type": "object"}),
            "/openapi.json": _read("openapi", "This document", JSON, {"type": "object"}),
            "/metrics": _read("metrics", "Metrics, in Prometheus' text", "text/plain", {"type": "string"}),
            "/healthz": _open_to_all("healthz", "Whether the process lives"),
            "/readyz": _open_to_all("readyz", "Whether calls may be sent to it", {"503": "Not now, and why."}),
        },
        "security": [{}, {"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas() | {name: _request(model) for name, model in MODELS.items()},
        },
    }


def _operation(model: Model) -> dict[str, Any]:
    return {
        "operationId": model.name,
        "summary": WHAT[model.name],
        "parameters": [
            {"name": "x-request-id", "in": "header", "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}},
            {"name": "traceparent", "in": "header", "schema": {"type": "string"}},
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref(model.name)}}},
        "responses": {
            "200": {"description": "The result.", "content": {JSON: {"schema": _result(model)}}},
            **{
                code: {"description": text, "content": {JSON: {"schema": _ref("Error")}}}
                for code, text in REFUSALS.items()
            },
        },
    }


def _request(model: Model) -> dict[str, Any]:
    grads = [name for name, gradient in GRADS.items() if model.rpc in WITH_GRADIENT[gradient]]
    properties: dict[str, Any] = {name: _ref("Tensor") for name in model.inputs}
    properties |= {name: _option(model, option) for name, option in model.options.items()}
    properties["grad"] = {
        "description": "Gradients of the loss: true is that of the input.",
        "oneOf": [{"type": "boolean"}, {"type": "array", "items": {"enum": grads}, "uniqueItems": True}],
    }
    if set(AUXILIARY) & set(model.outputs):
        properties["outputs"] = {"type": "array", "items": {"enum": list(AUXILIARY)}, "uniqueItems": True}
    properties["encoding"] = {
        "enum": list(ENCODINGS),
        "default": ENCODINGS[0],
        "description": "Of the answer's tensors.",
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(model.required),
        "additionalProperties": False,
    }


def _option(model: Model, option: FieldDescriptor) -> dict[str, Any]:
    if option.enum_type is not None:
        kinds = KINDS.get((METHODS[model.rpc].input_type.name, option.name))
        return {"enum": list(kinds or value_names(option.enum_type).values())}
    if option.type == FieldDescriptor.TYPE_INT64:
        return {"type": "integer", "format": "int64"}
    return _ref("Number")


def _result(model: Model) -> dict[str, Any]:
    tensors = {"type": "object", "additionalProperties": _ref("Tensor")}
    properties: dict[str, Any] = {model.result: _ref("Tensor"), "grads": tensors, "outputs": tensors}
    if not model.function:
        properties["summary"] = _ref("Summary")
    properties |= {"timing": _ref("Timing"), "request_id": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": [model.result, "timing", "request_id"]}


def _schemas() -> dict[str, Any]:
    dtype = {"enum": list(DTYPES)}
    whole = {"type": "integer", "format": "int64"}
    number = {"type": "number"}
    return {
        "Number": {"oneOf": [{"type": "number"}, {"enum": list(WORDS)}]},
        "Numbers": {
            "description": f"Nested lists, at most {MAX_RANK} deep, or one number; float64, or as the input is.",
            "oneOf": [_ref("Number"), {"type": "boolean"}, {"type": "array", "items": _ref("Numbers")}],
        },
        "Tensor": {
            "oneOf": [
                _ref("Numbers"),
                _object({"dtype": dtype, "shape": {"type": "array", "items": whole, "maxItems": MAX_RANK}, "data": {
                    "type": "string", "contentEncoding": "base64", "description": "C order, packed, little-endian.",
                }}),
                _object({"dtype": dtype, "values": _ref("Numbers")}),
            ]
        },
        "Summary": _object({"loss_sum": _ref("Number"), "weight_sum": _ref("Number"), "count": whole}),
        "Timing": _object({"queue_s": number, "compute_s": number, "batch_requests": whole, "batch_rows": whole}),
        "Error": _object(
            {
                "error": {
                    "type": "object",
                    "properties": {
                        "code": {"type": "string"},
                        "reason": {"type": "string"},
                        "field": {"type": "string"},
                        "message": {"type": "string"},
                        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                        "request_id": {"type": "string"},
                        "retry_after_s": {"type": "number"},
                    },
                    "required": ["code", "reason", "field", "message", "metadata", "request_id"],
                }
            }
        ),
    }  # fmt: skip


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Of these, all of them, and nothing else."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _read(name: str, summary: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    refused = _refusal(REFUSALS["401"])
    answer = {"description": summary, "content": {kind: {"schema": schema}}}
    return {"get": {"operationId": name, "summary": summary, "responses": {"200": answer, "401": refused}}}


def _open_to_all(name: str, summary: str, others: dict[str, str] | None = None) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    said = {"200": "Yes."} | (others or {})
    responses = {code: {"description": text, "content": content} for code, text in said.items()}
    return {"get": {"operationId": name, "summary": summary, "security": [{}], "responses": responses}}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {JSON: {"schema": _ref("Error")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
