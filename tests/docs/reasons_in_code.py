"""Reasons as the code raises them, read from its syntax trees: by which classes, with which metadata."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "server/lossd_server", ROOT / "client/lossd")
# A text of this form is a reason, wherever it stands; where an error is made, so is a single word.
UPPER = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
WORD = re.compile(r"[A-Z][A-Z0-9_]{3,}")
# Classes that a reason is given to. NotTaken: the shared-memory socket's.
CLASSES = frozenset(
    {
        "InvalidRequest",
        "Overloaded",
        "TooLarge",
        "GoingAway",
        "DeadlineOver",
        "NotFound",
        "Unauthenticated",
        "NotServed",
        "ServerError",
        "InvalidArgument",
        "Unavailable",
        "DeadlineExceeded",
        "InternalError",
        "NotTaken",
    }
)
# What is said beside metadata: no variable of the sentence.
BESIDE = frozenset({"reason", "metadata", "field", "retry_after_s", "details", "on_the_way", "request_id"})


@dataclass
class Raised:
    """How a reason is raised. classes: names, of either side. places: file:line."""

    classes: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    places: list[str] = field(default_factory=list)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> dict[Path, ast.Module]:
    """Every file of ours but what is generated from the contract."""
    return {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.py"))
        if "_pb2" not in path.name
    }


def raised() -> dict[str, Raised]:
    """Of each reason that a call names: an error's class, `invalid`, or a function of the file that makes one."""
    trees = sources()
    constants = {name: value for tree in trees.values() for name, value in _constants(tree)}
    public = {one.name: one for tree in trees.values() for one in _functions(tree) if not one.name.startswith("_")}
    found: dict[str, Raised] = defaultdict(Raised)
    for path, tree in trees.items():
        makers = public | {one.name: one for one in _functions(tree)}
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            made = _made(call, makers)
            if not made:
                continue
            for reason in _reasons(call, makers, constants):
                one = found[reason]
                one.classes |= made
                one.keys |= _keys(call, makers)
                one.places.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    return dict(found)


def literals() -> dict[str, str]:
    """Every text of the code that could be a reason, and a place of it."""
    found: dict[str, str] = {}
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and UPPER.fullmatch(node.value):
                found.setdefault(node.value, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def _functions(tree: ast.Module) -> Iterator[Function]:
    """Those that take a reason."""
    for node in ast.walk(tree):
        if isinstance(node, Function) and "reason" in {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}:
            yield node


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for target in node.targets:
                if isinstance(target, ast.Name) and UPPER.fullmatch(node.value.value):
                    yield target.id, node.value.value


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _made(call: ast.Call, makers: dict[str, Function]) -> set[str]:
    """The classes of errors that a call makes."""
    name = _name(call.func)
    if name in CLASSES:
        return {name}
    if name == "invalid":
        return {"InvalidRequest"}
    maker = makers.get(name)
    if maker is None:
        return set()
    called = {_name(inner.func) for inner in ast.walk(maker) if isinstance(inner, ast.Call)}
    return (called & CLASSES) | ({"InvalidRequest"} if "invalid" in called else set())


def _reasons(call: ast.Call, makers: dict[str, Function], constants: dict[str, str]) -> set[str]:
    values = [*call.args, *(one.value for one in call.keywords if one.arg == "reason")]
    found = {text for value in values for text in _texts(value, constants)}
    maker = makers.get(_name(call.func))
    if maker is not None and not found:
        found = {text for default in maker.args.defaults for text in _texts(default, constants)}
    return found


def _texts(value: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and WORD.fullmatch(value.value):
        yield value.value
    elif isinstance(value, ast.Name | ast.Attribute) and _name(value) in constants:
        yield constants[_name(value)]


def _keys(call: ast.Call, makers: dict[str, Function]) -> set[str]:
    """What is in the error's metadata: of the call itself, and of the function that makes the error."""
    keys: set[str] = set()
    maker = makers.get(_name(call.func))
    taken = {one.arg for one in (*maker.args.args, *maker.args.kwonlyargs)} if maker is not None else set()
    keys |= {one.arg for one in call.keywords if one.arg is not None} - BESIDE - taken
    for inner in (call, *(one for one in ast.walk(maker or call) if isinstance(one, ast.Call))):
        if _name(inner.func) == "invalid":
            keys |= {one.arg for one in inner.keywords if one.arg is not None} - BESIDE
        for one in inner.keywords:
            if one.arg == "metadata" and isinstance(one.value, ast.Dict):
                keys |= {str(key.value) for key in one.value.keys if isinstance(key, ast.Constant)}
    return keys
