"""A Ray cluster with lossd's application, run by the interpreter that has Ray: PORT ARGUMENTS, the last as JSON.

Prints "serving" once it does; then each line on its input is a command, whose answer is a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import ray
from ray import serve

from lossd_server.ray_app import app

APPLICATION = "losses"


def replicas() -> list[int]:
    """Process ids of those that Serve runs, of this cluster's."""
    parents = {int(one.name): parent(one) for one in Path("/proc").iterdir() if one.name.isdigit()}
    return [pid for pid in parents if is_replica(pid) and is_ours(pid, parents)]


def parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def is_replica(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"ray::ServeReplica:{APPLICATION}:lossd".encode())
    except OSError:
        return False


def is_ours(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid == os.getpid()


def main() -> None:
    port, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
    # What Ray itself has to say goes where errors go.
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(app(arguments), name=APPLICATION, route_prefix="/")
    print("serving", file=said, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["replicas"]:
                answer: object = replicas()
            case ["kill", pid]:
                os.kill(int(pid), signal.SIGKILL)
                answer = None
            case ["scale", number]:
                serve.run(app({**arguments, "replicas": int(number)}), name=APPLICATION, route_prefix="/")
                answer = None
            case _:
                raise SystemExit(f"no such command: {line}")
        print(json.dumps(answer), file=said, flush=True)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
