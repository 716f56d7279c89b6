"""No pickle, no code and no path from a client, nor between workers: who imports and calls what could be one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVER, CLIENT = ROOT / "server/lossd_server", ROOT / "client/lossd"
# Of these a byte of another's becomes an object, or a program.
LOADERS = frozenset(
    {"pickle", "marshal", "dill", "cloudpickle", "shelve", "joblib", "yaml", "runpy", "code", "codeop", "jsonpickle"}
    | {"importlib", "multiprocessing", "subprocess", "ctypes"}
)
# Who imports one, and why that is nobody else's to say.
IMPORTED = {
    "lossd_server/jobs/kernel_cache.py: pickle": "numba's cache, from a folder that only this user can write",
    "lossd_server/processes/supervisor.py: multiprocessing": "spawns workers; their words are JSON (start_words)",
    "lossd_server/metrics/memory.py: multiprocessing": "an array of integers",
    "lossd_server/telemetry/otlp.py: importlib": "one of two exporters, by names in the code",
    "lossd_server/processes/start_words.py: multiprocessing": "the type of a pipe, of which bytes are read",
    "lossd_server/serve.py: multiprocessing": "the worker's side of both",
    "lossd_server/processes/malloc.py: ctypes": "two functions of the C library",
    "lossd_server/backends/triton/__init__.py: ctypes": "whether there is a CUDA driver",
    "lossd_server/config/gpus.py: ctypes": "how many GPUs that driver has",
    "lossd_server/backends/numba/warmup.py: subprocess": "this Python, with fixed arguments, at the start",
    "lossd/__init__.py: importlib": "lossd's own modules, by the attribute that a program asks for",
    "lossd/extras.py: importlib": "libraries by names in the code",
    "lossd/command_line/contract_files.py: importlib": "the package's own files",
    "lossd/bench/report.py: importlib": "versions of libraries",
    "lossd_server/backends/triton/__init__.py: importlib": "whether torch and Triton are installed",
    "lossd_server/jobs/kernel_folders.py: importlib": "where the package lossd-kernels lies",
    "lossd_server/inference/protocol.py: importlib": "the package's own file of the protocol",
}
RUNS_TEXT = frozenset({"eval", "exec", "compile", "__import__", "execfile"})
# Folders that a request goes through, but for what reads a file of the package when it is imported.
ON_THE_WAY = ("front", "call", "rpc", "streaming", "intake", "fast_path", "wire", "losses", "jobs", "tensors", "engine")
OPENS = frozenset({"open", "fdopen", "memmap", "fromfile", "read_bytes", "read_text", "write_bytes", "write_text"})
OPENED = {
    "lossd_server/jobs/kernel_cache.py": "the cache of kernels, before calls are answered",
    "lossd_server/jobs/kernel_folders.py": "the sources that the cache's folder is named by, at the import",
}


def sources(*folders: Path) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(ROOT / ("server" if path.is_relative_to(SERVER) else "client")).as_posix()
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def called(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func
            yield name.id if isinstance(name, ast.Name) else getattr(name, "attr", ""), node


def test_what_could_run_others_bytes_is_imported_for_a_reason() -> None:
    """Nowhere but where the table says why; and the table names nothing that is not there."""
    found = set()
    for name, tree in sources(SERVER, CLIENT):
        for node in ast.walk(tree):
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            found |= {f"{name}: {top}" for top in (one.partition(".")[0] for one in modules) if top in LOADERS}

    assert found == set(IMPORTED)


def test_no_text_is_run() -> None:
    """No eval, exec or compile; a regular expression's compile is another one."""
    found = [
        f"{name}:{call.lineno}"
        for name, tree in sources(SERVER, CLIENT)
        for function, call in called(tree)
        if function in RUNS_TEXT and isinstance(call.func, ast.Name)
    ]

    assert found == []


def test_no_pipe_unpickles() -> None:
    """`recv()` of a multiprocessing pipe unpickles: bytes alone go through it. A socket's `recv` has a size."""
    found = [
        f"{name}:{call.lineno}"
        for name, tree in sources(SERVER, CLIENT)
        for function, call in called(tree)
        if function == "recv" and not call.args
    ]

    assert found == []


def test_numpy_files_are_read_without_pickles() -> None:
    """`lossd eval` reads other people's .npy and .npz files: each load says so."""
    loads = [
        (name, {one.arg: ast.unparse(one.value) for one in call.keywords})
        for name, tree in sources(SERVER, CLIENT)
        for function, call in called(tree)
        if function == "load" and ast.unparse(call.func) in ("np.load", "numpy.load")
    ]

    assert loads
    assert [name for name, options in loads if options.get("allow_pickle") != "False"] == []


def test_no_path_is_opened_on_the_way_of_a_request() -> None:
    """Nothing on that way opens a file, so that no client can name one."""
    found = {
        name
        for name, tree in sources(*(SERVER / folder for folder in ON_THE_WAY))
        for function, _ in called(tree)
        if function in OPENS
    }

    assert found == set(OPENED)
