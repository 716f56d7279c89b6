"""Generates code from proto/; `--check` says whether what is committed is what would be generated.

Of lossd.v1 that is Python, in client/lossd/v1. Of the Open Inference Protocol it is the compiled file itself, which the
server makes its classes of: what protoc writes would put them where other clients' files have the same names.

The protos themselves are copied beside the code, so that an installed lossd can hand them on (`lossd proto`).

The protocol compiler is the oldest grpcio-tools supported (in .venv/protoc): generated code demands a runtime at least
as new as its compiler, and takes any newer one. Type stubs come from mypy-protobuf, in the environment beside it.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = Path("lossd/v1")
PROTOC = ROOT / ".venv/protoc/bin/python"
PLUGINS = ROOT / ".venv/bin"
# The one file with a service: for the others the gRPC plugin would write empty modules.
SERVICES = ("service.proto",)
INFERENCE = "inference/grpc_service.proto"
COMPILED = Path("server/lossd_server/inference/grpc_service.binpb")
CLIENT = Path("client")


def protoc(*arguments: str) -> None:
    """Runs the protocol compiler over proto/; its complaints are the caller's."""
    subprocess.run([PROTOC, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", *arguments], check=True)


def generate(into: Path) -> None:
    """Writes messages, stubs of the service and their types, and the compiled file, to where they lie below `into`."""
    (into / COMPILED).parent.mkdir(parents=True)
    protoc(f"--descriptor_set_out={into / COMPILED}", INFERENCE)
    into = into / CLIENT
    into.mkdir()
    plugins = [f"--plugin={name}={PLUGINS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    messages = sorted(str(PACKAGE / path.name) for path in (PROTO / PACKAGE).glob("*.proto"))
    protoc(*plugins, f"--python_out={into}", f"--mypy_out=quiet:{into}", *messages)
    services = [str(PACKAGE / name) for name in SERVICES]
    protoc(*plugins, f"--grpc_python_out={into}", f"--mypy_grpc_out=quiet:{into}", *services)
    for name in messages:
        shutil.copyfile(PROTO / name, into / name)


def generated(root: Path) -> set[Path]:
    """The generated files below `root`."""
    folder = root / CLIENT / PACKAGE
    code = {path.relative_to(root) for pattern in ("*_pb2*.py*", "*.proto") for path in folder.glob(pattern)}
    return code | ({COMPILED} if (root / COMPILED).exists() else set())


def differences(fresh: Path) -> list[str]:
    """One line for each file that is missing, left over or out of date."""
    committed, made = generated(ROOT), generated(fresh)
    lines = [f"{path}: missing" for path in sorted(made - committed)]
    lines += [f"{path}: left over" for path in sorted(committed - made)]
    both = sorted(made & committed)
    return lines + [f"{path}: out of date" for path in both if not same(ROOT / path, fresh / path)]


def same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate code from proto/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the committed code is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        found = differences(fresh)
        if not check:
            for path in generated(ROOT) - generated(fresh):
                (ROOT / path).unlink()
            for path in generated(fresh):
                (ROOT / path).write_bytes((fresh / path).read_bytes())
    if check and found:
        print(*found, "run: make proto", sep="\n", file=sys.stderr)
        return 1
    print("generated code is fresh" if check else f"wrote {CLIENT / PACKAGE} and {COMPILED}; changed: {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
