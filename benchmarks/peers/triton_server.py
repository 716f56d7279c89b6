"""Triton Inference Server with its Python backend and the models of triton_model.py. Run it by .venv/peers.

    PYTHONPATH=benchmarks .venv/peers/bin/python -m peers.triton_server

The server comes with PyTriton's package, which is used for nothing else. Prints `listening on ADDRESS` when its models
are ready; SIGTERM ends it. One at a time on a machine, and a comparison with two would say nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import FrameType

import pytriton
import tritonclient.grpc as client

SERVER = Path(pytriton.__file__).parent / "tritonserver"
GRADIENT = 'output [ { name: "gradient", data_type: TYPE_FP32, dims: [ -1, -1 ] } ]'
# One instance, as torch takes every core for large tensors; no queue delay, so that a lone request does not wait.
CONFIG = """
backend: "python"
max_batch_size: 64
input [
  { name: "logits", data_type: TYPE_FP32, dims: [ -1, -1 ] },
  { name: "labels", data_type: TYPE_INT64, dims: [ -1 ] }
]
output [ { name: "loss", data_type: TYPE_FP32, dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU, count: 1 } ]
dynamic_batching { }
"""
# Where torch has a thread a core, small requests wait for its threads again and again, tens of milliseconds long.
ONE_THREAD = 'parameters { key: "threads", value: { string_value: "1" } }'
MODELS = {"cross_entropy": "", "cross_entropy_one_thread": ONE_THREAD, "cross_entropy_gradient": GRADIENT}


def write_models(folder: Path) -> None:
    """A model folder as Triton wants it: NAME/config.pbtxt and NAME/1/model.py."""
    for name, more in MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(f'name: "{name}"\n{CONFIG}{more}\n')
        (folder / name / "1/model.py").symlink_to(Path(__file__).with_name("triton_model.py").resolve())


def write_backend(folder: Path) -> None:
    """The Python backend beside the stub for this interpreter, which the package keeps elsewhere."""
    stub = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    if not (SERVER / stub).exists():
        sys.exit(f"PyTriton has no stub for Python {sys.version.split()[0]}: make .venv/peers with another one")
    (folder / "python").mkdir(parents=True)
    for path in (*(SERVER / "backends/python").iterdir(), SERVER / stub):
        (folder / "python" / path.name).symlink_to(path)


def environment() -> dict[str, str]:
    """The stub embeds an interpreter: it needs its libpython, and finds this environment by the first python3 on PATH.

    It takes no notice of PYTHONPATH, and reads wrong numbers where it finds numpy 2.
    """
    packages = Path(sysconfig.get_path("purelib"))
    libraries = [sysconfig.get_config_var("LIBDIR"), str(packages / "nvidia_pytriton.libs")]
    return os.environ | {
        "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(":"),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(folder: Path, port: int) -> list[str]:
    return [
        str(SERVER / "bin/tritonserver"),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--log-info=false",
    ]


def wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> None:
    with client.InferenceServerClient(address) as probe:
        while True:
            if server.poll() is not None:
                sys.exit(f"tritonserver ended with exit code {server.returncode}")
            try:
                if all(probe.is_model_ready(name) for name in MODELS):
                    return
            except client.InferenceServerException:
                time.sleep(0.1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder) / "models")
        write_backend(Path(folder) / "backends")
        port = free_port()
        server = subprocess.Popen(command(Path(folder), port), env=environment(), stdout=sys.stderr)

        def stop(number: int, frame: FrameType | None) -> None:
            server.terminate()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            wait_until_ready(f"127.0.0.1:{port}", server)
            print(f"listening on 127.0.0.1:{port}", flush=True)
            server.wait()
        finally:
            server.kill()


if __name__ == "__main__":
    main()
