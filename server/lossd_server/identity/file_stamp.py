"""Stamp of files: tells whether they have changed since they were read."""

from __future__ import annotations

import os


def file_stamp(*paths: str) -> object:
    """Another one when a file was written, replaced, or cannot be found any more."""
    try:
        found = [os.stat(path) for path in paths]
    except OSError as error:
        return error.errno
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in found)
