"""`lossd proto DIR`: the contract, for a compiler of any language."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from lossd import cli
from lossd.v1 import loss_pb2, service_pb2, tensor_pb2

BUF = Path(sys.executable).parent / "buf"
MODULES = (loss_pb2, service_pb2, tensor_pb2, status_pb2, error_details_pb2)
PROTO = Path(__file__).parents[3] / "proto"


def test_what_is_written_compiles_to_what_lossd_speaks(tmp_path: Path) -> None:
    """The folder alone is enough for a compiler, and every message, option and service is as in Python's classes."""
    assert cli.main(["proto", str(tmp_path)]) == 0

    image = tmp_path / "image.binpb"
    subprocess.run([BUF, "build", tmp_path, "--exclude-source-info", "--output", image], check=True)
    compiled = {file.name: file for file in FileDescriptorSet.FromString(image.read_bytes()).file}
    for module in MODULES:
        file = compiled[module.DESCRIPTOR.name]
        assert [message.name for message in file.message_type] == list(module.DESCRIPTOR.message_types_by_name)
        assert file.options.SerializeToString() == module.DESCRIPTOR.GetOptions().SerializeToString()


def test_the_comments_come_along(tmp_path: Path) -> None:
    """The files are those of proto/, byte by byte."""
    cli.main(["proto", str(tmp_path)])

    for file in (PROTO / "lossd/v1").glob("*.proto"):
        assert (tmp_path / "lossd/v1" / file.name).read_bytes() == file.read_bytes()


def test_each_path_is_printed_and_nothing_else_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there is made; a second call is as the first."""
    folder = tmp_path / "a" / "b"

    assert [cli.main(["proto", str(folder)]) for _ in range(2)] == [0, 0]
    printed = capsys.readouterr().out.splitlines()
    found = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    assert sorted(printed) == sorted(found * 2)
    assert len(found) == len(MODULES)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit status 1."""
    taken = tmp_path / "taken"
    taken.write_text("a file")

    assert cli.main(["proto", str(taken)]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert str(taken) in said.err
