"""Private folders for sockets: of this user alone, gone with the server that made them, however that ends.

A folder is held by a lock on a file in it, which the kernel lets go when the process ends. So the next start knows the
folders of servers that were killed, and removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "lossd-"
_MAKING = f".{PREFIX}"  # until the lock is held: nobody takes a folder of this name for a dead one
_LOCK = "lock"
FALLBACKS = ("/tmp", "/var/tmp")
# A Unix socket's path has at most 107 bytes, of which the name in the folder has these.
_LONGEST_FOLDER = 107 - len("/memory")


class PrivateFolder:
    """Made with mode 0700, and held until `remove`. path: without a slash at its end."""

    def __init__(self) -> None:
        making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=_parent()))
        # Inherited by nobody: a child that outlives us must not keep the folder.
        self._lock = os.open(making / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        made = making.with_name(PREFIX + making.name.removeprefix(_MAKING))
        making.rename(made)
        self.path = str(made)
        self._pid = os.getpid()

    def remove(self) -> None:
        """Idempotent; nothing in a forked child, to whom it does not belong."""
        if self._lock < 0 or os.getpid() != self._pid:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def remove_dead() -> None:
    """Removes the folders of this user's servers that were killed. What cannot be looked at is left alone."""
    for parent in {_parent(), tempfile.gettempdir()}:
        with suppress(OSError):
            for folder in Path(parent).glob(f"{PREFIX}*"):
                with suppress(OSError):
                    _remove_if_dead(folder)


def _remove_if_dead(folder: Path) -> None:
    found = folder.lstat()
    if found.st_uid != os.geteuid() or folder.is_symlink():
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _parent() -> str:
    """Where folders are made: the runtime folder, the temporary one, or where those are too long for a socket /tmp."""
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), *FALLBACKS):
        length = len(os.fsencode(f"{folder}/{PREFIX}12345678"))
        if folder and length <= _LONGEST_FOLDER and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise OSError(
        f"no folder for a Unix socket: {tempfile.gettempdir()} is too long a path, and /tmp cannot be written"
    )
