"""Generates client/lossd/v1 from proto/; `--check` says whether what is committed is what would be generated.

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


def protoc(*arguments: str) -> None:
    """Runs the protocol compiler over proto/; its complaints are the caller's."""
    subprocess.run([PROTOC, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", *arguments], check=True)


def generate(into: Path) -> None:
    """Writes messages, stubs of the service and their types to `into`/lossd/v1."""
    into.mkdir(parents=True, exist_ok=True)
    plugins = [f"--plugin={name}={PLUGINS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    messages = sorted(str(PACKAGE / path.name) for path in (PROTO / PACKAGE).glob("*.proto"))
    protoc(*plugins, f"--python_out={into}", f"--mypy_out=quiet:{into}", *messages)
    services = [str(PACKAGE / name) for name in SERVICES]
    protoc(*plugins, f"--grpc_python_out={into}", f"--mypy_grpc_out=quiet:{into}", *services)
    for name in messages:
        shutil.copyfile(PROTO / name, into / name)


def generated(folder: Path) -> set[str]:
    """Names of the generated files in `folder`/lossd/v1."""
    return {path.name for pattern in ("*_pb2*.py*", "*.proto") for path in (folder / PACKAGE).glob(pattern)}


def differences(committed: Path, fresh: Path) -> list[str]:
    """One line for each file that is missing, left over or out of date."""
    lines = [f"{PACKAGE / name}: missing" for name in sorted(generated(fresh) - generated(committed))]
    lines += [f"{PACKAGE / name}: left over" for name in sorted(generated(committed) - generated(fresh))]
    both = sorted(generated(committed) & generated(fresh))
    _, changed, unreadable = filecmp.cmpfiles(committed / PACKAGE, fresh / PACKAGE, both, shallow=False)
    return lines + [f"{PACKAGE / name}: out of date" for name in changed + unreadable]


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate client/lossd/v1 from proto/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the committed code is stale")
    check = parser.parse_args().check
    committed = ROOT / "client"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        found = differences(committed, fresh)
        if not check:
            for name in generated(committed) - generated(fresh):
                (committed / PACKAGE / name).unlink()
            for name in generated(fresh):
                (committed / PACKAGE / name).write_bytes((fresh / PACKAGE / name).read_bytes())
    if check and found:
        print(*found, "run: make proto", sep="\n", file=sys.stderr)
        return 1
    print("generated code is fresh" if check else f"wrote client/{PACKAGE}; changed: {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
