"""An embedded server in a process that has another file with the protocol's names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.client.programs import run
from tests.waiting import WAIT_S

# What it imports, and protobuf's and gRPC's are not: those are this environment's.
TRITON_PACKAGES = ("tritonclient", "rapidjson*.so", "urllib3", "ml_dtypes")


def test_the_names_are_taken_in_the_default_pool() -> None:
    """A file of the same package and messages, other in all else, is registered before and after: no TypeError."""
    program = """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import Default

    file = FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
    file.message_type.add(name="ModelInferRequest").field.add(name="other", number=1, type=9, label=1)
    Default().AddSerializedFile(file.SerializeToString())

    from lossd_server.inference.protocol import ModelInferRequest

    assert "model_name" in ModelInferRequest.DESCRIPTOR.fields_by_name
    assert "other" in Default().FindMessageTypeByName("inference.ModelInferRequest").fields_by_name
    later = FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    later.message_type.add(name="ModelConfig")
    Default().AddSerializedFile(later.SerializeToString())
    print("both")
    """

    assert run(program).stdout == "both\n"


def test_tritonclient_beside_an_embedded_server(triton_python: Path, tmp_path: Path) -> None:
    """Imported before the server is, Triton's client calls it in the same process, and has its bits."""
    (site,) = triton_python.parents[1].glob("lib/python*/site-packages")
    for pattern in TRITON_PACKAGES:
        for package in site.glob(pattern):
            (tmp_path / package.name).symlink_to(package)
    program = """
    import warnings

    warnings.simplefilter("ignore")  # that its generated code is older than protobuf here
    import tritonclient.grpc as triton
    import numpy as np
    import lossd
    from lossd_server.embedded import EmbeddedServer

    x, y = np.arange(128, dtype=np.float32).reshape(8, 16), np.arange(8)
    with EmbeddedServer() as server, lossd.Client(server.address) as own:
        client = triton.InferenceServerClient(server.address)
        inputs = [triton.InferInput("input", x.shape, "FP32"), triton.InferInput("target", y.shape, "INT64")]
        inputs[0].set_data_from_numpy(x)
        inputs[1].set_data_from_numpy(y)
        loss = client.infer("cross_entropy", inputs).as_numpy("loss")
        assert loss.tobytes() == own.cross_entropy(x, y).loss.tobytes()
        client.close()
    print("same bits")
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )

    assert done.stdout == "same bits\n", done.stderr
