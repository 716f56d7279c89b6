"""Protocol classes: the messages of proto/inference, in a descriptor pool of their own.

Other programs' files register the same names in protobuf's default pool, where a second file with them is a TypeError:
tritonclient's do, and it may be in this process beside an embedded server.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
INFERENCE_SERVICE = f"{PACKAGE}.GRPCInferenceService"

POOL = DescriptorPool()
(_compiled,) = FileDescriptorSet.FromString(files(__package__).joinpath("grpc_service.binpb").read_bytes()).file
POOL.AddSerializedFile(_compiled.SerializeToString())
FILE = POOL.FindFileByName(_compiled.name)


def descriptor(name: str) -> Descriptor:
    """Of the message `name`."""
    return POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")


def message_class(name: str) -> Any:
    """The message `name`; it has no stub, since its class is made here."""
    return GetMessageClass(descriptor(name))


ModelInferRequest = message_class("ModelInferRequest")
ModelInferResponse = message_class("ModelInferResponse")
ModelStreamInferResponse = message_class("ModelStreamInferResponse")
InferTensorContents = message_class("InferTensorContents")
